"""The capture of a step, as far as it needs no GPU: how an allocation refused inside it is told."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.phase8 import capture
from phase8_tune.tuner.measuring.failures import classify_chain, exception_chain
from phase8_tune.tuner.values.outcome import Outcome


class Ends:
    """Stands in for torch.cuda.graph, whose exit ends the capture, well or not."""

    def __init__(self, said: str | None) -> None:
        self.said = said

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self.said is not None:
            raise RuntimeError(self.said)


@pytest.mark.parametrize(
    "said", [None, "CUDA error: operation failed due to a previous error during capture"]
)
def test_an_allocation_refused_inside_a_capture(monkeypatch: pytest.MonkeyPatch, said: str | None) -> None:
    refuses = False

    def step(tokens: Tensor) -> Tensor:
        if refuses:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return tokens.sum()

    stream: Any = type("Stream", (), {"wait_stream": lambda self, other: None})
    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda given: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool, stream: Ends(said))
    captured = capture.CapturedFunction(step)
    tokens = torch.ones(3)
    for _ in range(capture.EAGER_CALLS):
        assert captured(tokens) == 3
    refuses = True
    with pytest.raises(RuntimeError) as caught:
        captured(tokens)
    failure, decisive = classify_chain(exception_chain(caught.value))
    assert (failure.outcome, failure.worker_usable) == (Outcome.OOM, False)
    assert "Tried to allocate 2.00 GiB" in str(decisive)
