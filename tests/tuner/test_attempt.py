"""What an attempt makes of failures, with a workload and an account that fail on command."""

from __future__ import annotations

import pytest
import torch

from phase8_tune.tuner.measuring.protocol import HostMemory, MeasureRequest, Result
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.worker import attempt

REFUSED = "CUDA out of memory. Tried to allocate 20.00 MiB"
CAPTURE = "CUDA error: operation failed due to a previous error during capture"
REQUEST = MeasureRequest(
    id=1,
    candidate=Candidate(
        model="nano",
        n_seq=8,
        batch_size=1,
        kernel_version="fast",
        gradient_checkpointing=False,
        mixed_precision="none",
    ).to_dict(),
    warmup=1,
    iterations=5,
    seed=0,
    budget_bytes=1 << 30,
    reserve_bytes=0,
)


class Capture:
    """A context manager that fails at its exit, as torch.cuda.graph does after any failure inside it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        raise RuntimeError(CAPTURE)


class Run:
    """Fails as `how` says, on the call of that number."""

    parameters = 7

    def __init__(self, how: str | None, call: int) -> None:
        self.how, self.call, self.calls = how, call, 0

    def prepare(self, candidate: Candidate, device: torch.device, seed: int) -> Run:
        return self

    setup_calls = 1

    def run_once(self) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.call and self.how == "refused":
            raise torch.OutOfMemoryError(REFUSED)
        if self.calls == self.call and self.how == "refused inside a capture":
            with Capture():
                raise torch.OutOfMemoryError(REFUSED)
        if self.calls == self.call and self.how == "capture":
            raise RuntimeError(CAPTURE)
        return torch.tensor(1.0)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


class Account:
    """`settles` is what tidying up raises, None for an account that is back at its baseline."""

    def __init__(self, settles: str | None) -> None:
        self.settles = settles

    def begin(self, request: MeasureRequest) -> None:
        pass

    def note_iteration(self) -> None:
        pass

    def alloc_retries(self) -> int:
        return 0

    def memory_stats(self) -> dict[str, int]:
        return {}

    def report(self) -> HostMemory:
        return HostMemory(before_bytes=1, peak_bytes=2, source="fake")

    def settle(self) -> str | None:
        if self.settles is not None:
            raise RuntimeError(self.settles)
        return None


def run(
    monkeypatch: pytest.MonkeyPatch, how: str | None, *, call: int = 1, settles: str | None = None
) -> Result:
    monkeypatch.setattr(attempt, "load_workload", lambda name: Run(how, call))
    return attempt.run_attempt(REQUEST, torch.device("cpu"), Account(settles), lambda progress: None)


@pytest.mark.parametrize("call", [1, 2, 4])  # in the set-up, the warm-up and the samples
@pytest.mark.parametrize("settles", [None, CAPTURE, "CUDA error: an illegal memory access was encountered"])
def test_a_refusal_inside_a_capture_is_an_oom_and_costs_the_worker(
    monkeypatch: pytest.MonkeyPatch, call: int, settles: str | None
) -> None:
    found = run(monkeypatch, "refused inside a capture", call=call, settles=settles)
    assert found.measurement.outcome is Outcome.OOM
    assert REFUSED in found.measurement.message  # the size in it tells the search how far off it was
    assert found.replace is not None


@pytest.mark.parametrize(("settles", "is_kept"), [(None, True), (CAPTURE, False)])
def test_a_plain_refusal_costs_the_worker_only_where_tidying_up_fails(
    monkeypatch: pytest.MonkeyPatch, settles: str | None, is_kept: bool
) -> None:
    found = run(monkeypatch, "refused", settles=settles)
    assert found.measurement.outcome is Outcome.OOM
    assert (found.replace is None) is is_kept


def test_a_capture_that_fails_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, "capture")
    assert found.measurement.outcome is Outcome.ERROR
    assert found.replace is not None
    assert found.memory is None


def test_a_device_that_fails_only_when_it_is_tidied_up(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, None, settles="CUDA error: an illegal memory access was encountered")
    assert found.measurement.outcome is Outcome.ILLEGAL_ACCESS
    assert found.replace is not None
    assert run(monkeypatch, None).measurement.outcome is Outcome.OK


def test_set_up_ends_when_all_calls_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is captured in its fourth call is neither warmed up nor timed before."""
    prepared = Run(None, 0)
    prepared.setup_calls = 4
    calls_at: dict[str, int] = {}
    monkeypatch.setattr(attempt, "load_workload", lambda name: prepared)
    attempt.run_attempt(
        REQUEST,
        torch.device("cpu"),
        Account(None),
        lambda said: calls_at.update({said.phase: prepared.calls}),
    )
    assert calls_at["setup"] == 0
    assert calls_at["warmup"] == 4
    assert calls_at["timed"] == 4 + REQUEST.warmup
