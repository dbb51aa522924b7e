"""Work on the GPU in processes that have not used it before, as many at once as its memory takes.

What torch's allocator reserves depends on where the driver puts segments, and that on what the process did
before: a run is measured as training starts, in a process of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_fresh_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    needs_bytes: Sequence[int] | None = None,
    room_bytes: int = 0,
    at_once: int = 1,
) -> list[Result]:
    """function(item) for every item, in order, each in a new process.

    needs_bytes: of the device, for each item; those that run together need no more than `room_bytes`. What
    needs more runs alone.
    Raises: what `function` raises.
    """
    room = _Room(room_bytes)

    def run(item: Item, needed: int) -> Result:
        with room.taken(needed), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, item).result()

    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(run, items, needs_bytes or [0] * len(items)))


class _Room:
    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._taken_bytes = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        """Wait for room, and have it for the while."""

        def is_free() -> bool:
            return self._taken_bytes == 0 or self._taken_bytes + size_bytes <= self._size_bytes

        with self._changed:
            self._changed.wait_for(is_free)
            self._taken_bytes += size_bytes
        try:
            yield
        finally:
            with self._changed:
                self._taken_bytes -= size_bytes
                self._changed.notify_all()
