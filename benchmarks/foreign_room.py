"""Room on a card that processes share: each waits until what it is expected to take is free."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_OUTSIDE_BYTES = 1 << 30  # of a process beside what torch reserves


class Room:
    """Bytes of a card. Who asks for more than all waits until nobody else is there."""

    def __init__(self, room_bytes: int) -> None:
        self._room_bytes, self._taken_bytes = room_bytes, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        """Inside, so many bytes are this caller's."""
        size = min(size_bytes * 5 // 4 + _OUTSIDE_BYTES, self._room_bytes)
        with self._changed:
            self._changed.wait_for(lambda: self._taken_bytes + size <= self._room_bytes)
            self._taken_bytes += size
        try:
            yield
        finally:
            with self._changed:
                self._taken_bytes -= size
                self._changed.notify_all()
