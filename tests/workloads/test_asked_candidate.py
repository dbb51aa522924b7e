"""A candidate of any workload from a command's options."""

from __future__ import annotations

from typing import Any

import pytest

from phase8_tune.tuner.commands.asked_candidate import asked_candidate, savings_of
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


def test_what_saves_memory_is_offered_where_there_is_any_left() -> None:
    plain = asked_candidate(**PLAIN)
    small = {"optimizer_state": "8bit", "master_weights": "bf16_sr"}
    options = "--optimizer-state 8bit --master-weights bf16_sr"
    both = plain.changed(**small, gradient_checkpointing="full")
    assert savings_of(plain) == [
        (plain.changed(**small), options),
        (plain.changed(gradient_checkpointing="full"), "--checkpointing full"),
        (both, f"{options} --checkpointing full"),
    ]
    assert asked_candidate(**PLAIN | small) == savings_of(plain)[0][0]
    assert savings_of(plain.changed(**small)) == [(both, "--checkpointing full")]
    assert savings_of(both) == []
    assert savings_of(plain.changed(mode="forward")) == []
    other = Candidate(workload="transformer", model="nano", batch_size=2, n_seq=64)
    assert [text for _, text in savings_of(other)] == ["--checkpointing full"]


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
