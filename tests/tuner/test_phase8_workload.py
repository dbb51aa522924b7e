"""The workload that comes with the tuner: the model, the vocabulary and the tokens that a candidate names."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from phase8_tune.kernels.gate import GateResult
from phase8_tune.phase8.config import preset
from phase8_tune.phase8.optimizer import CompactAdamW
from phase8_tune.tuner.builtin.phase8 import workload
from phase8_tune.tuner.builtin.phase8.options import options_of
from phase8_tune.tuner.builtin.phase8.workload import WORKLOAD
from phase8_tune.tuner.predict.lines import line_key
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.values.candidate import Candidate


@pytest.mark.parametrize("mode", ["train", "forward"])
@pytest.mark.parametrize("vocab_size", [2, 300])
def test_a_size_of_ones_own_is_run_with_tokens_of_its_vocabulary(vocab_size: int, mode: str) -> None:
    candidate = Candidate(
        model="64x1",
        variant="phase7",
        n_seq=32,
        batch_size=4,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="none",
        mode=mode,  # type: ignore[arg-type]
        vocab_size=vocab_size,
    )
    run = WORKLOAD.prepare(candidate, torch.device("cpu"), 0)
    config = preset("64x1", n_seq=32, variant="phase7", vocab_size=vocab_size)
    assert run.parameters == config.parameter_count()
    assert run.body_parameters == config.parameter_count() - 32 * 64
    tokens = run._tokens
    assert tokens.shape == (4, 33)
    assert int(tokens.min()) == 0  # the most frequent
    assert int(tokens.max()) < vocab_size
    loss = float(run.run_once())
    assert loss == pytest.approx(math.log(vocab_size), rel=0.2)  # nothing is known yet
    run.close()


SMALL = {"optimizer_state": "8bit", "master_weights": "bf16_sr"}


def tiny(**changes: Any) -> Candidate:
    fields: dict[str, Any] = {"model": "64x1", "n_seq": 16, "batch_size": 1, "kernel_version": "reference"}
    fields |= {"gradient_checkpointing": "full", "mixed_precision": "none"}
    return Candidate(**(fields | changes))


def test_parts_of_a_step_are_counted_and_taken() -> None:
    """Two parts of the same tokens are the step of one, and twice as many tokens."""
    trained = []
    for parts in (1, 2):
        candidate = tiny(gradient_accumulation=parts)
        assert candidate.items_per_step == parts * 16
        run = WORKLOAD.prepare(candidate, torch.device("cpu"), 0)
        losses = [float(run.run_once()) for _ in range(2)]
        assert losses[1] < losses[0]
        run.finish()
        trained.append(losses)
        run.close()
    assert trained[0] == pytest.approx(trained[1], rel=1e-5)
    assert tiny(gradient_accumulation=2, mode="forward").items_per_step == 16
    assert "accumulate2" in tiny(gradient_accumulation=2).describe()
    assert "accumulate" not in tiny().describe()


@pytest.mark.parametrize(("key", "value"), SMALL.items())
def test_a_candidate_and_its_line_are_trained_alike(key: str, value: str) -> None:
    candidate = tiny(**{key: value})
    options = options_of(candidate)
    assert getattr(options, key) == value
    assert options_of(line_key(candidate, gpu_profile("h200"))) == options  # type: ignore[arg-type]


def test_small_state_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[CompactAdamW] = []
    step = CompactAdamW.step

    def noted(self: CompactAdamW) -> None:
        made.append(self)
        step(self)

    monkeypatch.setattr(CompactAdamW, "step", noted)
    run = WORKLOAD.prepare(tiny(**SMALL), torch.device("cpu"), 0)
    first = float(run.run_once())
    assert float(run.run_once()) < first
    run.close()
    assert len(made) == 2


@pytest.mark.parametrize(
    ("changes", "is_checked"), [({}, False), *(({k: v}, True) for k, v in SMALL.items())]
)
def test_the_optimizer_is_checked_where_it_is_used(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], is_checked: bool
) -> None:
    def passed(operation: str) -> GateResult:
        return GateResult(operation=operation, version="fast", dtype="all", worst_ratio=0.5, failures=())

    monkeypatch.setattr(workload, "check_version", lambda *_: (passed("all"),))
    monkeypatch.setattr(workload, "check_adamw", lambda version, device: passed(f"adamw {version}"))
    candidate = tiny(kernel_version="v2", **changes)
    found = [result.operation for result in WORKLOAD.check(candidate, torch.device("cpu"))]
    assert found == (["all", "adamw fast"] if is_checked else ["all"])
    assert candidate.has_own_optimizer == is_checked
