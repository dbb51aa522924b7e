"""Digests name what lies on the disk: those of format 1 stay, whatever is added to a candidate later."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any

import pytest

from phase8_tune.tuner.study.axes import Axes
from phase8_tune.tuner.study.definition import StudyDefinition, parse_definition
from phase8_tune.tuner.values.candidate import FORMAT_1_FIELDS, Candidate
from phase8_tune.tuner.values.timing import Timing

KNOWN: dict[str, Any] = {
    "model": "nano",
    "n_seq": 64,
    "batch_size": 8,
    "kernel_version": "fast",
    "gradient_checkpointing": True,
    "mixed_precision": "bf16",
}
PRODUCT = "e2a49baa3c0708b373aeac40044ded72456b8130df7922ddac0d017a7a075b96"
ROWS = "54c39c761fd339b4e7460838df4e4c161df773550cdaabee90e25d7404ff274d"


@dataclass(frozen=True, kw_only=True, slots=True)
class LaterCandidate(Candidate):
    """A candidate with one axis more."""

    accumulation: int = 1


class LaterAxes(Axes):
    """Axes with one more."""

    accumulation: tuple[int, ...] = (1,)


class LaterTiming(Timing):
    """A timing with a key more."""

    pause_s: float = 0.0


class LaterDefinition(StudyDefinition):
    """A study that has them."""

    axes: LaterAxes | None = None
    timing: LaterTiming = LaterTiming()


@pytest.mark.parametrize(
    ("change", "digest"),
    [
        ({}, "de60623f09983aef"),
        ({"mode": "forward"}, "2d1725bcdd0437e9"),
        ({"variant": "phase7"}, "7da34201a353279c"),
        ({"mixed_precision": "fp16", "gradient_checkpointing": False}, "2eac4ffc2ba75bf6"),
        ({"workload": "other"}, "5097d5e7150fad22"),
    ],
)
@pytest.mark.parametrize("kind", [Candidate, LaterCandidate])
def test_a_digest_of_format_1_stays(kind: type[Candidate], change: dict[str, Any], digest: str) -> None:
    assert kind(**(KNOWN | change)).digest() == digest


def test_a_later_field_counts_where_it_differs_from_its_default() -> None:
    plain, other = LaterCandidate(**KNOWN), LaterCandidate(**KNOWN, accumulation=4)
    assert plain.identity() == Candidate(**KNOWN).identity()
    assert other.identity() == plain.identity() | {"accumulation": 4}
    assert other.digest() != plain.digest()
    # A candidate written before there was the field is read, and is the one that it was.
    assert LaterCandidate.from_dict(Candidate(**KNOWN).to_dict()) == plain


def test_every_later_field_has_a_default() -> None:
    names = {field.name for field in fields(Candidate)}
    assert names >= FORMAT_1_FIELDS
    assert not [f.name for f in fields(Candidate) if f.name not in FORMAT_1_FIELDS and f.default is MISSING]


@pytest.mark.parametrize("kind", [StudyDefinition, LaterDefinition])
def test_a_study_of_format_1_stays_the_same_study(kind: type[StudyDefinition]) -> None:
    product = {
        "name": "tiny",
        "axes": {
            "model": ["nano"],
            "n_seq": [64],
            "batch_size": [1, 8],
            "kernel_version": ["reference"],
            "gradient_checkpointing": [False],
            "mixed_precision": ["none"],
        },
        "timing": {"warmup": 1},
    }
    rows = {"name": "tiny", "rows": [KNOWN | {"kernel_version": "reference"}]}
    assert kind.model_validate(product).digest() == PRODUCT
    assert kind.model_validate(rows).digest() == ROWS


def test_a_later_key_of_a_study_counts_where_it_is_given() -> None:
    axes = {key: [value] for key, value in KNOWN.items()}
    plain = {"name": "tiny", "axes": axes}
    taken = [
        plain,
        {**plain, "axes": {**axes, "accumulation": (1, 4)}},
        {**plain, "timing": {"pause_s": 1.0}},
    ]
    digests = [LaterDefinition.model_validate(study).digest() for study in taken]
    assert len(set(digests)) == len(taken)
    assert parse_definition(StudyDefinition.model_validate(plain).to_yaml(), "copy").digest() == digests[0]
