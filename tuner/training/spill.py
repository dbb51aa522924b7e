"""Whether memory of a training has moved to the system's: tokens/s that fell off a cliff on a full card.

Under Windows and WSL the driver moves what does not fit without an error; the step then waits for it.
"""

from __future__ import annotations

import statistics
from collections import deque

from ..measuring.memory import PINNED

_CLIFF = 0.5  # of the usual tokens/s: a full bus is many times slower, a warm card or a busy host is not
_STRETCHES = 3  # one after the other: a host that was busy for one is no spill
_KEPT = 101  # stretches of which the median is the usual


class SpillWatch:
    """Looks at each stretch of steps between two lines of a training; answers at most once."""

    def __init__(self) -> None:
        self._usual: deque[float] = deque(maxlen=_KEPT)
        self._low = 0
        self._is_told = False

    def note(self, tokens_per_s: float, *, used_bytes: int, capacity_bytes: int) -> str | None:
        """What to tell the user after this stretch. used_bytes: of the card now, by all programs."""
        usual = statistics.median(self._usual) if len(self._usual) >= _STRETCHES else 0.0
        if tokens_per_s >= _CLIFF * usual:
            self._usual.append(tokens_per_s)
            self._low = 0
            return None
        self._low = self._low + 1 if used_bytes >= PINNED * capacity_bytes else 0
        if self._is_told or self._low < _STRETCHES:
            return None
        self._is_told = True
        return (
            f"tokens/s fell to {tokens_per_s:,.0f} from {usual:,.0f} while the card is full: its memory is "
            "being moved to the system's; close other programs on it, train with a lower --vram or a smaller "
            "batch_size, or turn off the driver's system-memory fallback"
        )
