"""The correctness check before a version's first timing: in the worker, in the driver, and in the report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from phase8_tune.kernels import gate
from phase8_tune.kernels.gate import GateFailure, GateResult
from phase8_tune.kernels.gate_draws import DEVICE_SHAPES, ODD_SHAPES
from phase8_tune.kernels.versions import OPERATIONS, implementation
from phase8_tune.tuner.builtin.phase8 import workload as phase8
from phase8_tune.tuner.measuring.protocol import Checked, CheckRequest, decode_reply, encode
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.worker import kernel_check

CPU = torch.device("cpu")
FAKE_WORKER = (sys.executable, str(Path(__file__).parents[1] / "fakes" / "worker.py"))


def candidate(**changes: Any) -> Candidate:
    """For the fake worker: `variant` says how the check ends, `model` how the measurement does."""
    fields: dict[str, Any] = {
        "model": "progress",
        "variant": "check:passes",
        "n_seq": 8,
        "batch_size": 1,
        "kernel_version": "fast",
        "gradient_checkpointing": False,
        "mixed_precision": "bf16",
    }
    return Candidate(**(fields | changes))


class Checks:
    """A workload whose check ends as it is told."""

    def __init__(self, results: Sequence[GateResult] | Exception) -> None:
        self.results = results

    def prepare(self, candidate: Candidate, device: torch.device, seed: int) -> Any:
        raise AssertionError("a check prepares nothing")

    def check(self, candidate: Candidate, device: torch.device) -> Sequence[GateResult]:
        if isinstance(self.results, Exception):
            raise self.results
        return self.results


class NothingToCheck:
    def prepare(self, candidate: Candidate, device: torch.device, seed: int) -> Any:
        raise AssertionError("a check prepares nothing")


def result(operation: str, worst: float, *failures: tuple[str, float, float]) -> GateResult:
    return GateResult(
        operation=operation,
        version="fast",
        dtype="bfloat16",
        worst_ratio=worst,
        failures=tuple(GateFailure(tensor=t, error=e, budget=b) for t, e, b in failures),
    )


def answer(monkeypatch: pytest.MonkeyPatch, workload: object) -> Checked:
    """What the worker says of a workload; it survives the way to the driver."""
    monkeypatch.setattr(kernel_check, "load_workload", lambda name: workload)
    said = kernel_check.check_kernels(CheckRequest(id=7, candidate=candidate().to_dict()), CPU)
    told = decode_reply(encode(said))
    assert isinstance(told, Checked)
    assert told == said
    assert told.id == 7
    return told


def test_a_version_within_its_budget_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    told = answer(monkeypatch, Checks([result("bk_scan", 0.4), result("bk_gate", 0.7)]))
    assert (told.outcome, told.message) == (Outcome.OK, "")
    assert told.check is not None
    assert (told.check.passed, told.check.worst_ratio) == (True, 0.7)
    assert (told.check.kernel_version, told.check.mixed_precision) == ("fast", "bf16")


def test_a_wrong_version_is_told_with_its_numbers_the_worst_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    off = result("bk_gate", 3.0, ("output 0 at B=1", 0.03, 0.01), ("gradient of h at B=1", 0.02, 0.01))
    worse = result("mix_norm", float("inf"), ("output 0 at B=1", float("nan"), 0.01))
    little = result("layer_norm", 1.5, ("gradient of x at B=1", 0.015, 0.01))
    told = answer(monkeypatch, Checks([off, little, worse, result("bk_scan", 0.2)]))
    assert told.outcome is Outcome.WRONG_RESULT
    assert told.message == (
        "mix_norm, output 0 at B=1 (bfloat16): error nan, budget 0.01; "
        "bk_gate, output 0 at B=1 (bfloat16): error 0.03, budget 0.01; "
        "bk_gate, gradient of h at B=1 (bfloat16): error 0.02, budget 0.01; and 1 more"
    )
    assert told.check is not None
    assert (told.check.passed, told.check.worst_ratio) == (False, None)  # not finite
    assert "layer_norm, gradient of x at B=1 (bfloat16): error 0.015" in capsys.readouterr().err


def test_a_kernel_that_does_not_run_is_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    told = answer(monkeypatch, Checks(RuntimeError("CUDA error: an illegal memory access was encountered")))
    assert (told.outcome, told.check) == (Outcome.ILLEGAL_ACCESS, None)
    assert "illegal memory access" in told.message


def test_a_workload_without_a_check_has_nothing_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    told = answer(monkeypatch, NothingToCheck())
    assert (told.outcome, told.check) == (Outcome.OK, None)


@pytest.mark.parametrize("spoiled", [None, "layer_norm"])
def test_the_models_own_check_is_the_gate(monkeypatch: pytest.MonkeyPatch, spoiled: str | None) -> None:
    """The reference in the place of `fast`, which needs a GPU; with one operation slightly off, it fails."""

    def stand_in(operation: str, version: str) -> Callable[..., Any]:
        function = implementation(operation, "reference")
        if version == "reference" or operation != spoiled:
            return function
        return lambda *arguments: function(*arguments) * 1.05

    monkeypatch.setattr(gate, "implementation", stand_in)
    monkeypatch.setattr(phase8, "DEVICE_SHAPES", ODD_SHAPES[1:2])
    told = answer(monkeypatch, phase8.WORKLOAD)
    assert told.check is not None
    assert told.check.seconds > 0
    if spoiled is None:
        assert told.outcome is Outcome.OK
    else:
        assert told.outcome is Outcome.WRONG_RESULT
        assert told.message.startswith("layer_norm, output 0 at B=2 N=37 d=40 H=2 (bfloat16): error 0.05")
        assert told.message.count(";") == 3  # the output, and the gradients of x, weight and bias


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16"), ("none", "float32")]
)
def test_the_check_is_at_the_candidates_precision(
    monkeypatch: pytest.MonkeyPatch, precision: str, dtype: str
) -> None:
    monkeypatch.setattr(phase8, "DEVICE_SHAPES", ODD_SHAPES[:1])
    found = phase8.WORKLOAD.check(candidate(kernel_version="reference", mixed_precision=precision), CPU)
    assert {r.operation for r in found} == set(OPERATIONS)
    assert {r.dtype for r in found if r.operation not in gate._FLOAT32_ONLY} == {dtype}


def test_what_is_checked_on_a_gpu_is_small_and_odd() -> None:
    for shape in DEVICE_SHAPES:
        assert shape.batch * shape.n_seq < 300
        assert shape.n_seq % 16
        assert shape.n_seq > 2 * shape.window
