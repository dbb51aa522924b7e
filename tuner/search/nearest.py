"""What a sampler asks for is brought to the nearest candidate that is open: every ask is a measurement."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, IntDistribution

from ..records.cells import Cell, cell_of
from ..records.knowledge import Knowledge
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from .cells import FINEST_SHARE, IsOpen

_APART = (FINEST_SHARE, 0.0)
"""By which share of the larger a batch differs from what is measured: so that it tells something new, or, at
the end, at all."""
_PLACE_OF_A_BATCH = ("batch_size", "batch_size_index")


class OpenCandidates:
    """The candidates of a space that are open, as far as it was asked for them.

    What is not open any more remains so: it is settled, under way, or rejected; and of what is rejected the
    larger batches are, too.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space, self._distributions = space, space.distributions()
        self._ends: dict[Candidate, int] = {}  # by line: so many of its batches are not rejected
        self._closed: dict[float, set[Candidate]] = {apart: set() for apart in _APART}  # lines
        self._cells: dict[Cell, list[Candidate]] = {}
        for line in space.lines:
            self._cells.setdefault(cell_of(line), []).append(line)
        self._far: dict[Candidate, list[Candidate]] = {}  # by line: those of other cells, the nearest first
        self._parameters: dict[Candidate, dict[str, Any]] = {}  # of lines

    def nearest(self, asked: Candidate, knowledge: Knowledge, is_open: IsOpen) -> Candidate | None:
        """Itself where it is open, or else the nearest batch of its line, or else of the nearest line; None
        where nothing is open. It may lie anywhere in the rectangle around the space.

        Of batches between bounds one that is told apart from all that are settled or under way, as long as
        there is any. A batch that is no smaller than one with which memory ran out is taken for one halfway,
        in proportion, between that and the largest that fitted: the next one below would run out as well.
        """
        line = asked.line()
        for apart in _APART:
            closed = self._closed[apart]
            for each in self._lines_near(line, asked):
                if each in closed:
                    continue
                found = self._nearest_of(each, asked.batch_size, apart, knowledge, is_open)
                if found is not None:
                    return found
                closed.add(each)
        return None

    def _nearest_of(
        self, line: Candidate, batch: int, apart: float, knowledge: Knowledge, is_open: IsOpen
    ) -> Candidate | None:
        batches, known = self._space.batches(line), knowledge.batches(line)
        over, fitted = knowledge.smallest_over(line), knowledge.largest_fit(line)
        if over is not None and batch >= over:
            batch = math.isqrt(over * (fitted or batches[0]))
        apart = apart if isinstance(batches, range) else 0.0  # what a user listed is wanted
        end = self._ends.get(line, len(batches))
        while True:
            place = _nearest_free(batches[:end], batch, known, apart)
            candidate = None if place is None else line.at(batches[place])
            if place is None or candidate is None or is_open(candidate):
                self._ends[line] = end
                return candidate
            end = self._first_rejected(line, place, knowledge, is_open)

    def _first_rejected(self, line: Candidate, place: int, knowledge: Knowledge, is_open: IsOpen) -> int:
        """Place of the smallest batch that is rejected; the one at `place` is."""
        batches = self._space.batches(line)
        low, high = -1, place
        while high - low > 1:
            middle = (low + high) // 2
            candidate = line.at(batches[middle])
            if knowledge.is_available(candidate) and not is_open(candidate):
                high = middle
            else:
                low = middle
        return high

    def _lines_near(self, line: Candidate, asked: Candidate) -> Iterator[Candidate]:
        """The line itself, then the others of its cell, then those of other cells."""
        if self._space.batches(line):
            yield line
        of_cell = self._cells.get(cell_of(line), ())
        yield from self._by_distance(asked, (other for other in of_cell if other != line))
        if line not in self._far:
            others = (o for cell, lines in self._cells.items() if cell != cell_of(line) for o in lines)
            self._far[line] = self._by_distance(asked, others)
        yield from self._far[line]

    def _by_distance(self, asked: Candidate, lines: Iterable[Candidate]) -> list[Candidate]:
        """Nearest first: axes that differ are counted, those of numbers by the share of their range."""
        here = _without_batch(self._space.parameters_of(asked))

        def distance(line: Candidate) -> float:
            there = self._parameters_of(line)
            return sum(_apart(self._distributions[name], value, there[name]) for name, value in here.items())

        return sorted(lines, key=distance)

    def _parameters_of(self, line: Candidate) -> dict[str, Any]:
        if line not in self._parameters:
            first = line.at(self._space.batches(line)[0])
            self._parameters[line] = _without_batch(self._space.parameters_of(first))
        return self._parameters[line]


def _without_batch(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name not in _PLACE_OF_A_BATCH}


def _apart(distribution: BaseDistribution, here: Any, there: Any) -> float:
    if isinstance(distribution, IntDistribution):
        return float(abs(here - there)) / max(distribution.high - distribution.low, 1)
    return float(here != there)


def _nearest_free(batches: Sequence[int], batch: int, known: Sequence[int], apart: float) -> int | None:
    """Place of the nearest batch, in proportion, that differs from every known one by more than a share."""
    start = bisect_left(batches, batch)
    below, above = start - 1, start
    while below >= 0 and (near := _near_to(batches[below], known, apart)) is not None:
        below = min(below, bisect_left(batches, near * (1 - apart))) - 1
    while above < len(batches) and (near := _near_to(batches[above], known, apart)) is not None:
        above = max(above + 1, bisect_right(batches, near / (1 - apart)))
    if below < 0 or above >= len(batches):
        return above if above < len(batches) else below if below >= 0 else None
    return above if batches[above] * batches[below] < batch**2 else below


def _near_to(batch: int, known: Sequence[int], apart: float) -> int | None:
    """One of the known batches, ascending, that differs by no more than that share of the larger."""
    place = bisect_left(known, batch)
    if place < len(known) and known[place] - batch <= known[place] * apart:
        return known[place]
    if place and batch - known[place - 1] <= batch * apart:
        return known[place - 1]
    return None
