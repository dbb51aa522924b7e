"""Which storages are alive under the tracer, and whose memory each is.

A storage is given a slot when an operation first returns it, and is followed by a weak reference: when the
last tensor on it goes, wherever that is, its slot is freed in the log. Views share their storage, and so its
slot.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .event_log import UNKNOWN, EventLog
from .events import GLOBAL
from .operations import tensors_of
from .step_progress import Progress

_STACKS = ("stack", "cat")


class Storages:
    """Live storages by slot; writes their frees into the log."""

    def __init__(self, log: EventLog, progress: Progress) -> None:
        self._log, self._progress = log, progress
        self._slot_of: dict[int, tuple[Any, int]] = {}

    def slot(self, tensor: Tensor) -> int:
        """The slot of a live tensor's storage."""
        return self._slot_of[tensor.untyped_storage()._cdata][1]

    def is_followed(self, storage: Any) -> bool:
        """Whether a storage has a slot. (Addresses come again: an entry may be of an earlier storage.)"""
        known = self._slot_of.get(storage._cdata)
        return known is not None and known[0]() is storage

    def follow(self, storage: Any, slot: int, name: str) -> None:
        """Free a slot once nobody holds a storage any more. name: of the operation that allocated it."""
        key = storage._cdata

        def forget(_: Any) -> None:
            del self._slot_of[key]
            if self._log.phase == "backward":
                self._progress.follow()  # the backward pass may have ended with nothing more to dispatch
            self._log.free(slot, name)

        self._slot_of[key] = (weakref.ref(storage, forget), slot)

    def unit(self, tensor: Tensor) -> int:
        """The block that a tensor's memory belongs to."""
        known = self._slot_of.get(tensor.untyped_storage()._cdata)
        return GLOBAL if known is None else self._log.unit_of_slot[known[1]]

    def unit_of_state(
        self, short_name: str, args: Sequence[Any], index: int | None, size_bytes: int
    ) -> tuple[int, int]:
        """Which block a result of the optimizer serves, and how many bytes it takes more with every block.

        Say that all moments are scaled at once: the third result is of the third argument's block. Norms of
        all gradients in one stack belong to no block, and there are more by as many as a block has gradients.
        short_name, args: of the operation; index: the result's place, None where it is the only one.
        """
        first = args[0] if args else None
        if index is not None and isinstance(first, (list, tuple)) and len(first) > index:
            return self.unit(first[index]), 0
        units = [self.unit(tensor) for tensor in tensors_of(args)]
        if not units:
            return UNKNOWN, 0
        if len(set(units)) == 1:
            return units[0], 0
        if short_name in _STACKS:
            return GLOBAL, size_bytes * units.count(1) // len(units)
        return GLOBAL, 0
