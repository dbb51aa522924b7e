"""The strategy that measures a whole space as far as it is predicted to fit, for whoever wants to know what
other strategies leave out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ..predict.climb import rounded
from ..predict.outlook import Outlook
from ..records.knowledge import Knowledge
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from .foresight import Foresight
from .strategy import PREPARED, Preparation, Strategy, make_ready

_SHARES = (1.0, 15 / 16, 7 / 8, 3 / 4, 5 / 8)
"""Of the largest batch that fits, those that are measured beside the powers of two."""


def ladder(batches: Sequence[int], largest: int, shares: Sequence[float] = _SHARES) -> tuple[int, ...]:
    """Batches that stand for all of a line up to the largest that fits, ascending: of a list every one, of
    bounds powers of two and rounder ones at shares of the largest; none where `largest` is 0."""
    if not isinstance(batches, range):
        return tuple(batch for batch in batches if batch <= largest)
    if largest < batches[0]:
        return ()
    chosen = {rounded(max(int(largest * share), 1)) for share in shares}
    chosen |= {1 << power for power in range(largest.bit_length())}
    return tuple(sorted(batch for batch in chosen if batch >= batches[0]) or [batches[0]])


class Exhaustive(Strategy):
    """Every line in the space's order, its largest batch first; then `checks`, and then nothing.

    The batches of a line come one after the other, and the lines of a cell where the space names them so:
    most kernels of the next candidate are those of the last. A line without an outlook is measured from its
    smallest batch on, until one does not fit.
    """

    has_plan = True

    def __init__(
        self,
        space: SearchSpace,
        foresight: Foresight | None = None,
        checks: Sequence[Candidate] = (),
        preparation: Preparation | None = None,
    ) -> None:
        self._space, self._foresight, self._preparation = space, foresight, preparation
        self._lines = deque(space.lines)  # of which nothing is queued yet
        self._queue: deque[Candidate] = deque()
        self._checks = deque(checks)

    @property
    def left(self) -> int:
        """As far as it is known: lines that are not predicted yet count nothing."""
        known = self._known()
        lines = (line for line in self._lines if line in known or self._foresight is None)
        counts = (len(self._candidates(line, known.get(line))) for line in lines)
        return len(self._queue) + sum(counts) + len(self._checks)

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        while self._fill():
            candidate = self._queue.popleft()
            if is_open(candidate):  # what is not is settled, under way or rejected, and remains so
                make_ready(candidate, self._queue, self._preparation)
                return candidate
        while self._checks:
            check = self._checks.popleft()
            if is_open(check):
                return check
        return None

    def _fill(self) -> bool:
        """Queue lines, those that are known and at least one, which is waited for; whether any is queued."""
        known = self._known()
        while self._lines and len(self._queue) < PREPARED:
            line = self._lines[0]
            if self._queue and line not in known and self._foresight is not None:
                break
            outlook = None if self._foresight is None else self._foresight.outlook(line)
            self._queue += self._candidates(line, outlook)
            self._lines.popleft()
        return bool(self._queue)

    def _known(self) -> dict[Candidate, Outlook]:
        return {} if self._foresight is None else {o.line: o for o in self._foresight.known}

    def _candidates(self, line: Candidate, outlook: Outlook | None) -> list[Candidate]:
        batches = self._space.batches(line)
        if outlook is None:
            return [line.at(batch) for batch in ladder(batches, batches[-1])]
        return [line.at(batch) for batch in reversed(ladder(batches, outlook.largest))]
