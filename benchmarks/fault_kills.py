"""Workers that are killed with SIGKILL at random moments, while a driver goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ..tuner.measuring.worker_measurer import WorkerMeasurer
from .fault_cases import BUDGET_BYTES, FAKE, Bench, fake
from .fault_harness import Tally, run_case
from .fault_processes import marked

_LOOK_S = 0.01  # how often a worker that is starting is looked at


def kill_case(bench: Bench, kills: int, *, is_real: bool) -> Iterator[Tally]:
    """SIGKILL for whatever worker there is, at random moments of its start, its trials and between."""
    rows, span_s, how = (8, 2.0, "slow:0.1") if is_real else (40, 0.15, "slow:0.04")
    done, part = 0, 0
    while done < kills:
        making = _Watched(bench.real() if is_real else fake())
        with _killer(kills - done, span_s, bench.seed + part, making) as made:
            tally = run_case(
                "worker killed at random moments",
                bench.folder / f"kill-{bench.device if is_real else 'fake'}-{part}",
                [[how]] * rows,
                making,
                worker=bench.worker if is_real else FAKE,
                budget_bytes=BUDGET_BYTES,
                injected=0,
            )
        yield replace(tally, injected=len(made))
        done, part = done + len(made), part + 1


class _Watched:
    """Makes a measurer, and knows whether its worker has its device."""

    def __init__(self, make: Callable[[Path], WorkerMeasurer]) -> None:
        self._make = make
        self._made: WorkerMeasurer | None = None

    def __call__(self, folder: Path) -> WorkerMeasurer:
        self._made = self._make(folder)
        return self._made

    def is_ready(self) -> bool:
        return self._made is not None and self._made._worker is not None


@contextlib.contextmanager
def _killer(kills: int, span_s: float, seed: int, watched: _Watched) -> Iterator[list[int]]:
    """A thread that kills so many of the processes with our mark, one at a time; the list has their pids.

    Every other kill waits until a worker is ready, or most would come to one that is only starting.
    """
    made: list[int] = []
    done = threading.Event()
    chance = random.Random(seed)

    def work() -> None:
        while len(made) < kills:
            while len(made) % 2 and not watched.is_ready():
                if done.wait(_LOOK_S):
                    return
            if done.wait(chance.uniform(0, span_s / 2 if len(made) % 2 else span_s)):
                return
            for pid in marked()[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    made.append(pid)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        done.set()
        thread.join()
