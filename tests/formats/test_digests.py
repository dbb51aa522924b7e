"""Digests name what lies on the disk: those of format 1 stay, whatever is added to a candidate later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from phase8_tune.tuner.builtin.phase8.spec import SPEC
from phase8_tune.tuner.study.definition import StudyDefinition, parse_definition
from phase8_tune.tuner.values.axes import Axis
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.timing import Timing
from phase8_tune.tuner.values.workload_spec import note_spec

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


COUNTED = {
    *("workload", "model", "variant", "n_seq", "batch_size", "kernel_version"),
    *("gradient_checkpointing", "mixed_precision", "mode"),
}
"""What every digest of format 1 was made of. Never changed: runs on the disk are known by their digests."""
LATER = replace(
    SPEC,
    axes=(*SPEC.axes, Axis(name="accumulation", kind=int, default=1, is_later=True)),
    file_order=(*SPEC.order, "accumulation"),
)
"""Phase 8 with one axis more."""


@pytest.fixture
def is_later(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the test is of a later version of the program, whose candidates have one axis more."""
    note_spec(LATER if request.param else SPEC)
    yield request.param
    note_spec(SPEC)


class LaterTiming(Timing):
    """A timing with a key more."""

    pause_s: float = 0.0


class LaterDefinition(StudyDefinition):
    """A study that has it."""

    timing: LaterTiming = LaterTiming()


@pytest.mark.parametrize(
    ("change", "digest"),
    [
        ({}, "de60623f09983aef"),
        ({"mode": "forward"}, "2d1725bcdd0437e9"),
        ({"variant": "phase7"}, "7da34201a353279c"),
        ({"mixed_precision": "fp16", "gradient_checkpointing": False}, "2eac4ffc2ba75bf6"),
        ({"workload": "other", "variant": "phase8"}, "5097d5e7150fad22"),  # of which nothing else is known
    ],
)
@pytest.mark.parametrize("is_later", [False, True], indirect=True)
def test_a_digest_of_format_1_stays(is_later: bool, change: dict[str, Any], digest: str) -> None:
    assert Candidate(**(KNOWN | change)).digest() == digest


@pytest.mark.parametrize("is_later", [True], indirect=True)
def test_a_later_axis_counts_where_it_differs_from_its_default(is_later: bool) -> None:
    plain, other = Candidate(**KNOWN), Candidate(**KNOWN, accumulation=4)
    note_spec(SPEC)
    earlier = Candidate(**KNOWN)
    identity, written = earlier.identity(), earlier.to_dict()
    note_spec(LATER)
    assert plain.identity() == identity
    assert other.identity() == plain.identity() | {"accumulation": 4}
    assert other.digest() != plain.digest()
    # A candidate written before there was the axis is read, and is the one that it was.
    assert "accumulation" not in written
    assert Candidate.from_dict(written) == plain


def test_a_truth_that_became_words_is_recorded_as_it_was() -> None:
    words = [Candidate(**KNOWN | {"gradient_checkpointing": word}) for word in ("none", "full")]
    truths = [Candidate(**KNOWN | {"gradient_checkpointing": truth}) for truth in (False, True)]
    assert words == truths
    assert [c.to_dict()["gradient_checkpointing"] for c in words] == ["none", "full"]
    assert [c.identity()["gradient_checkpointing"] for c in words] == [False, True]
    assert [Candidate.from_dict(c.identity()) for c in words] == words


def test_a_study_of_words_is_the_study_of_truths() -> None:
    axes = {key: [value] for key, value in KNOWN.items()}
    studies = [
        StudyDefinition.model_validate({"name": "tiny", "axes": axes | {"gradient_checkpointing": values}})
        for values in (["none", "full"], [False, True])
    ]
    assert studies[0].digest() == studies[1].digest()
    assert studies[0].products == studies[1].products


def test_every_later_axis_has_a_default() -> None:
    assert SPEC.counted == COUNTED
    assert not [axis.name for axis in SPEC.axes if axis.is_later and axis.default is None]


@pytest.mark.parametrize(
    ("kind", "is_later"), [(StudyDefinition, False), (LaterDefinition, True)], indirect=["is_later"]
)
def test_a_study_of_format_1_stays_the_same_study(kind: type[StudyDefinition], is_later: bool) -> None:
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


@pytest.mark.parametrize("is_later", [True], indirect=True)
def test_a_later_key_of_a_study_counts_where_it_is_given(is_later: bool) -> None:
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
