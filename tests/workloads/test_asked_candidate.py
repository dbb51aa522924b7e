"""A candidate of any workload from a command's options."""

from __future__ import annotations

from typing import Any

import pytest

from phase8_tune.tuner.commands.asked_candidate import asked_candidate
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError

PLAIN: dict[str, Any] = {
    **{
        "workload": "phase8",
        "model": "nano",
        "batch_size": 2,
        "mode": "train",
        "precision": None,
        "others": (),
    },
    **{
        "n_seq": 64,
        "kernel_version": None,
        "gradient_checkpointing": None,
        "variant": None,
        "vocab_size": None,
    },
}


def test_phase8_has_its_usual_settings() -> None:
    assert asked_candidate(**PLAIN) == Candidate(
        model="nano",
        batch_size=2,
        n_seq=64,
        kernel_version="fast",
        gradient_checkpointing=False,
        mixed_precision="bf16",
    )


def test_another_workload_has_the_defaults_of_its_axes() -> None:
    asked = asked_candidate(
        **PLAIN | {"workload": "transformer", "precision": "fp16", "others": ("loss=chunked",)}
    )
    assert asked == Candidate(
        workload="transformer", model="nano", batch_size=2, n_seq=64, loss="chunked", mixed_precision="fp16"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n_seq": None}, "--seq: expected a value of n_seq, got none"),
        ({"kernel_version": "best"}, "--kernel: expected one of reference, v1, v2, fast, got 'best'"),
        ({"model": "nanoo"}, "--model: expected one of nano, .*did you mean nano"),
        (
            {"workload": "transformer", "variant": "phase7"},
            "--variant: expected an axis of workload transformer",
        ),
        ({"workload": "transformer", "others": ("los=x",)}, "--set: expected one of .*did you mean loss"),
        ({"workload": "transformer", "others": ("loss=x",)}, "--set loss: expected 'dense', .* got 'x'"),
        (
            {"workload": "transformer", "others": ("queries_per_kv=0",)},
            "--set queries_per_kv: expected a number greater than 0, got 0",
        ),
        ({"workload": "transfomer"}, "workload: expected one of phase8, .*did you mean transformer"),
    ],
)
def test_what_a_workload_has_not_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserInputError, match=told):
        asked_candidate(**PLAIN | change)
