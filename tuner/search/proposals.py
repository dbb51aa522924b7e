"""What is proposed where nothing is known beforehand: a study's rows, or what its sampler asks for."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from ..records.database import StudyStore
from ..records.knowledge import Knowledge
from ..study.definition import StudyDefinition
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from .exhaustive import ladder
from .nearest import OpenCandidates
from .strategy import Preparation, RowOrder, Strategy


class SamplerChoice(Strategy):
    """What the sampler of the study asks for, after a beginning of our own.

    The first is the first of the space: with axes written from small to large it is the cheapest, so that a
    slow machine too has measured something when the time is up. What is not open is brought to the nearest
    that is, until nothing is.
    """

    has_plan = False

    def __init__(self, store: StudyStore, space: SearchSpace) -> None:
        self._store, self._open = store, OpenCandidates(space)
        self._first = next(iter(space.enumerate()))

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        if not knowledge.launched and is_open(self._first):
            return self._first
        return self._store.ask(lambda asked: self._open.nearest(asked, knowledge, is_open))


class GridOrder(Strategy):
    """Every listed batch of every line, of batches between bounds powers of two, in an order that follows
    from `seed`; and then nothing."""

    has_plan = False

    def __init__(self, space: SearchSpace, seed: int) -> None:
        points = [line.at(batch) for line in space.lines for batch in _in_grid(space.batches(line))]
        random.Random(seed).shuffle(points)
        self._points = deque(points)

    @property
    def left(self) -> int:
        return len(self._points)

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        while self._points:
            candidate = self._points.popleft()
            if is_open(candidate):  # what is not is settled, under way or rejected, and remains so
                return candidate
        return None


def _in_grid(batches: Sequence[int]) -> Sequence[int]:
    return ladder(batches, batches[-1], shares=())


def default_strategy(
    definition: StudyDefinition,
    space: SearchSpace,
    store: StudyStore,
    preparation: Preparation | None = None,
) -> Strategy:
    """The rows in order, made ready by `preparation`, or the choice of the study's sampler."""
    if space.is_rows:
        return RowOrder(tuple(space.enumerate()), preparation)
    if definition.search.sampler == "grid":
        return GridOrder(space, definition.search.seed)
    return SamplerChoice(store, space)
