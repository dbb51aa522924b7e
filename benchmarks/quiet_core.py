"""Timing on a host that others use too: on the processor core that is fastest at the moment.

While other programs share a core, what waits for the host takes up to 1.7 times as long, and that changes
from second to second: of eleven configurations timed twice the median of steps on all cores moved by 15 %,
the least of three blocks so timed by 5 %, and steps on all cores took 1.14 times as long (medians;
studies/results/2026-11-26-h100-host-time). On a quiet computer both say the same.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

BLOCKS = 2
BLOCK_STEPS, BLOCK_S = 2, 0.4
"""At least so many steps a block, and more until they took this long."""
_ADDITIONS = 20_000


def timed_blocks(step: Callable[[], float]) -> list[list[float]]:
    """Seconds of steps in BLOCKS blocks, each on the core that was fastest when it began.

    step: runs one and returns its seconds.
    """
    blocks = []
    for _ in range(BLOCKS):
        with on_fastest_core():
            step()  # the caches of a new core
            block = [step()]
            while len(block) < BLOCK_STEPS or sum(block) < BLOCK_S:
                block.append(step())
            blocks.append(block)
    return blocks


def undisturbed_s(blocks: Sequence[Sequence[float]]) -> float:
    """The least of the blocks' medians: others can only slow a block down."""
    return min(statistics.median(block) for block in blocks)


@contextlib.contextmanager
def on_fastest_core() -> Iterator[int]:
    """All threads of this process, and processes that they start, on one core."""
    cores = os.sched_getaffinity(0)
    core = min(sorted(cores), key=_seconds_on)
    _pin({core})
    try:
        yield core
    finally:
        _pin(cores)


def _seconds_on(core: int) -> float:
    os.sched_setaffinity(0, {core})
    return min(_additions_s() for _ in range(2))


def _additions_s() -> float:
    start, total = time.perf_counter(), 0
    for number in range(_ADDITIONS):
        total += number
    return time.perf_counter() - start


def _pin(cores: set[int]) -> None:
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            os.sched_setaffinity(int(task.name), cores)
