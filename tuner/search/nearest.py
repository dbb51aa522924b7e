"""What a sampler asks for is brought to the nearest candidate that is open: every ask is a measurement."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, IntDistribution

from ..records.cells import cell_of
from ..records.knowledge import Knowledge
from ..study.space import SearchSpace
from ..values.candidate import Candidate

IsOpen = Callable[[Candidate], bool]

_PLACE_OF_A_BATCH = ("batch_size", "batch_size_index")


class OpenCandidates:
    """The candidates of a space that are open, as far as it was asked for them.

    What is not open any more remains so: it is settled, under way, or rejected; and of what is rejected the
    larger batches are, too.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space, self._distributions = space, space.distributions()
        self._ends: dict[Candidate, int] = {}  # by line: so many of its batches are not rejected
        self._taken: dict[Candidate, set[int]] = {}  # places of batches that are not available, by line
        self._closed: set[Candidate] = set()  # lines of which nothing is open
        self._near: dict[Candidate, list[Candidate]] = {}  # the lines by how near they are to another

    def nearest(self, asked: Candidate, knowledge: Knowledge, is_open: IsOpen) -> Candidate | None:
        """Itself where it is open, or else the nearest batch of its line, or else of the nearest line; None
        where nothing is open. It may lie anywhere in the rectangle around the space.

        A batch that is no smaller than one with which memory ran out is taken for one halfway, in proportion,
        between that and the largest that fitted: the next one below would run out as well.
        """
        line = asked.line()
        for each in self._lines_near(line, asked):
            found = self._nearest_of(each, asked.batch_size, knowledge, is_open)
            if found is not None:
                return found
            self._closed.add(each)
        return None

    def _nearest_of(
        self, line: Candidate, batch: int, knowledge: Knowledge, is_open: IsOpen
    ) -> Candidate | None:
        batches = self._space.batches(line)
        over, fitted = knowledge.smallest_over(line), knowledge.largest_fit(line)
        if over is not None and batch >= over:
            batch = math.isqrt(over * (fitted or batches[0]))
        end = self._ends.get(line, len(batches))
        while end:
            place = self._available(line, batches[:end], batch, knowledge)
            if place is None:
                break
            candidate = line.at(batches[place])
            if is_open(candidate):
                self._ends[line] = end
                return candidate
            end = self._first_rejected(line, place, knowledge, is_open)
        self._ends[line] = 0
        return None

    def _available(
        self, line: Candidate, batches: Sequence[int], batch: int, knowledge: Knowledge
    ) -> int | None:
        """Place of the nearest batch, in proportion, that is neither settled nor under way."""
        start = bisect_left(batches, batch)
        taken = self._taken.setdefault(line, set())

        def first(places: range) -> int | None:
            for place in places:
                if place in taken:
                    continue
                if knowledge.is_available(line.at(batches[place])):
                    return place
                taken.add(place)
            return None

        below, above = first(range(start - 1, -1, -1)), first(range(start, len(batches)))
        if below is None or above is None:
            return above if below is None else below
        return above if batches[above] * batches[below] < batch**2 else below

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
        """The line itself, then the others of its cell, then those of other cells, as far as any is open."""
        if line not in self._closed and self._space.batches(line):
            yield line
        if line not in self._near:
            here = self._parameters(asked)
            others = [
                (cell_of(other) != cell_of(line), self._distance(here, other), place, other)
                for place, other in enumerate(self._space.lines)
                if other != line
            ]
            self._near[line] = [other for *_, other in sorted(others, key=lambda found: found[:3])]
        self._near[line] = [other for other in self._near[line] if other not in self._closed]
        yield from self._near[line]

    def _distance(self, here: dict[str, Any], other: Candidate) -> float:
        """Axes that differ, those of numbers by the share of their range."""
        there = self._parameters(other.at(self._space.batches(other)[0]))
        return sum(_apart(self._distributions[name], value, there[name]) for name, value in here.items())

    def _parameters(self, candidate: Candidate) -> dict[str, Any]:
        found = self._space.parameters_of(candidate)
        return {name: value for name, value in found.items() if name not in _PLACE_OF_A_BATCH}


def _apart(distribution: BaseDistribution, here: Any, there: Any) -> float:
    if isinstance(distribution, IntDistribution):
        return float(abs(here - there)) / max(distribution.high - distribution.low, 1)
    return float(here != there)
