"""Batches on the device, prepared ahead of the step: the step never waits for the host to gather them."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Protocol, Self

import torch
from torch import Tensor

from .windows import WindowSampler

_AHEAD = 2  # prepared while a step runs: one to be copied, one in reserve


class BatchSource(Protocol):
    """Batches in their order, each on the device until the next is asked for."""

    def next(self) -> Tensor:
        """int64 [B, N + 1]."""
        ...


class HostBatches:
    """Of a training on the CPU: gathered when they are asked for."""

    def __init__(self, sampler: WindowSampler, *, first: int) -> None:
        self._sampler, self._number = sampler, first

    def next(self) -> Tensor:
        batch = torch.from_numpy(self._sampler.batch(self._number))
        self._number += 1
        return batch


class _Pinned:
    """One batch in host memory that the card copies from by itself, and when it was last copied."""

    def __init__(self, shape: torch.Size) -> None:
        self.tokens = torch.empty(shape, dtype=torch.int64, pin_memory=True)
        self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]


class PinnedBatches:
    """Of a training on a GPU: a thread gathers them into pinned memory; a context, which ends the thread.

    tokens: the one batch on the card, int64 [B, N + 1], that every next one is copied into.
    """

    def __init__(self, sampler: WindowSampler, *, first: int, tokens: Tensor) -> None:
        self._sampler, self._number, self._tokens = sampler, first, tokens
        self._free: queue.SimpleQueue[_Pinned | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[_Pinned | BaseException] = queue.SimpleQueue()
        for _ in range(_AHEAD):
            self._free.put(_Pinned(tokens.shape))
        self._thread = threading.Thread(target=self._gather, name="batches", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free.put(None)
        self._thread.join()

    def next(self) -> Tensor:
        """Raises: whatever gathering a batch raised (OSError where the data's file is gone)."""
        pinned = self._ready.get()
        if isinstance(pinned, BaseException):
            raise pinned
        self._tokens.copy_(pinned.tokens, non_blocking=True)
        pinned.copied.record()
        self._free.put(pinned)
        return self._tokens

    def _gather(self) -> None:
        try:
            while (pinned := self._free.get()) is not None:
                pinned.copied.synchronize()
                pinned.tokens.copy_(torch.from_numpy(self._sampler.batch(self._number)))
                self._number += 1
                self._ready.put(pinned)
        except BaseException as error:  # whatever it is, the training's thread is to know
            self._ready.put(error)
