"""Lines that save memory and cost time or precision: tried in a cell whose best is known, where memory limits
it.

A study names them in products with `tried_where: memory_limits`. None is predicted before it is asked for, so
that a search begins as soon without. Memory limits a cell where nothing of it fits, or where a line of it
would be faster than the best that fits, if the batch had all memory: also what does not grow with it, as
weights and optimizer state.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from ..predict.outlook import Outlook
from ..records.cells import Cell as CellKey
from ..records.cells import cell_of
from ..records.knowledge import Knowledge
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from .cells import FINEST_SHARE, Cell, top_batch
from .foresight import Foresight
from .strategy import Strategy

_WORTHWHILE = 1.03
"""What that has to promise, in tokens/s, before savings are looked at: they give a part of it."""


class Savings:
    """The lines that are left for later, by cell, and which of them it is time for.

    lines: all of them, whether it was time or not.
    """

    def __init__(self, foresight: Foresight) -> None:
        self._foresight = foresight
        self.lines = frozenset(foresight.savings)
        self._left: dict[CellKey, list[Candidate]] = {}
        for line in foresight.savings:
            self._left.setdefault(cell_of(line), []).append(line)
        self._outlooks: dict[CellKey, list[Outlook]] = {}

    def take(self, outlook: Outlook) -> None:
        """Take in what is predicted of a line."""
        key = cell_of(outlook.line)
        if key in self._left:
            self._outlooks.setdefault(key, []).append(outlook)

    def due(self, cells: Mapping[CellKey, Cell]) -> list[Candidate]:
        """The lines whose turn it is, each once. cells: those of which something fits."""
        if not self._left:
            return []
        found = [key for key in self._left if self._is_limited(key, cells.get(key))]
        return [line for key in found for line in self._left.pop(key)]

    def _is_limited(self, key: CellKey, cell: Cell | None) -> bool:
        if cell is None:  # nothing fits so far
            return self._foresight.is_known(key)
        if cell.best is None:
            return False
        best = cell.best.candidate
        return memory_limits(self._outlooks.get(key, ()), best.line(), best.batch_size)


def memory_limits(outlooks: Sequence[Outlook], best: Candidate, batch: int) -> bool:
    """Whether a cell would be faster by prediction if batches had all memory.

    outlooks: of its lines. best, batch: the line that is the fastest, and at which batch. Where that is not
    its largest, more memory is nothing to this line.
    """
    own = next((outlook for outlook in outlooks if outlook.line == best), None)
    if own is None:
        return False
    is_at_end = batch >= top_batch(own) * (1 - FINEST_SHARE)
    wanted = [outlook for outlook in outlooks if is_at_end or outlook is not own]
    most = max((_rate(outlook, _largest_of_all(outlook)) for outlook in wanted), default=0.0)
    return most >= _WORTHWHILE * _rate(own, batch)


def _largest_of_all(outlook: Outlook) -> int:
    """The largest allowed batch if it had all memory that the line takes: bytes are straight in the batch."""
    start, *others = outlook.rungs
    largest = max(outlook.largest, start)
    if others:
        least, more = outlook.rungs[start].peak_bytes, outlook.rungs[others[-1]].peak_bytes
        slope = (more - least) / (others[-1] - start)
        if slope > 0:
            largest += max(int(least / slope - start), 0)
    return min(largest, outlook.batches[-1])


def due_by_prediction(space: SearchSpace, outlooks: Iterable[Outlook]) -> list[Candidate]:
    """The lines that save memory in the cells that it limits, where nothing is measured.

    outlooks: of all other lines.
    """
    of_cells: dict[CellKey, list[Outlook]] = {}
    for outlook in outlooks:
        of_cells.setdefault(cell_of(outlook.line), []).append(outlook)
    limited: Container[CellKey] = {key for key, found in of_cells.items() if _is_limited(found)}
    return [line for line in space.savings if (key := cell_of(line)) in limited or key not in of_cells]


def _is_limited(outlooks: Sequence[Outlook]) -> bool:
    fitting = [outlook for outlook in outlooks if outlook.largest]
    if not fitting:
        return True
    best = max(fitting, key=lambda outlook: _rate(outlook, top_batch(outlook)))
    return memory_limits(outlooks, best.line, top_batch(best))


def _rate(outlook: Outlook, batch: int) -> float:
    return outlook.forecast(batch).tokens_per_s.expected


class WithoutSavings(Strategy):
    """Another strategy's choice, but for lines that save memory: without predictions nobody knows where it is
    what limits."""

    def __init__(self, then: Strategy, savings: Iterable[Candidate]) -> None:
        self._then, self._savings = then, frozenset(savings)

    @property
    def has_plan(self) -> bool:
        return self._then.has_plan

    @property
    def left(self) -> int | None:
        return self._then.left

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        return self._then.propose(knowledge, lambda c: c.line() not in self._savings and is_open(c))
