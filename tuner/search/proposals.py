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
from .strategy import RowOrder, Strategy

# A sampler that repeats itself this often has seen most of what it likes: the rest is taken from the lines.
_ASKS = 16
_ASKS_OF_GP = 2  # each takes seconds


class SamplerChoice(Strategy):
    """What the sampler of the study asks for, between a beginning and an end of our own.

    The first is the first of the space: with axes written from small to large it is the cheapest, so that a
    slow machine too has measured something when the time is up. When the sampler only repeats itself, or asks
    for what is not of the space, it is any candidate that is open.
    """

    has_plan = False

    def __init__(
        self, store: StudyStore, space: SearchSpace, knowledge: Knowledge, seed: int, asks: int = _ASKS
    ) -> None:
        self._store, self._space, self._asks = store, space, asks
        self._random = random.Random(seed + len(knowledge.settled))
        self._first = next(iter(space.enumerate()))
        self._rest = list(space.lines)  # in random order; without those at the end that have nothing open
        self._random.shuffle(self._rest)

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        if not knowledge.settled and knowledge.is_available(self._first):
            return self._first
        for _ in range(self._asks):
            candidate = self._store.ask()
            if candidate is None:
                continue
            if knowledge.is_available(candidate):
                return candidate
            if knowledge.is_settled(candidate):
                self._store.tell(knowledge.record_of(candidate), knowledge)
        while self._rest:
            found = self._any_of(self._rest[-1], is_open)
            if found is not None:
                return found
            self._rest.pop()  # for good: all of it is settled, under way or rejected
        return None

    def _any_of(self, line: Candidate, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        """An open candidate of a line, looked for from a random one on."""
        batches = self._space.batches(line)
        start = self._random.randrange(len(batches))
        order = (*range(start, len(batches)), *range(start))
        return next((c for place in order if is_open(c := line.at(batches[place]))), None)


class GridOrder(Strategy):
    """Every listed batch of every line, of batches between bounds powers of two, in an order that follows
    from `seed`; and then nothing."""

    has_plan = False

    def __init__(self, space: SearchSpace, seed: int) -> None:
        points = [line.at(batch) for line in space.lines for batch in grid_batches(space.batches(line))]
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


def grid_batches(batches: Sequence[int]) -> Sequence[int]:
    """Those of a line's batches that are in its grid."""
    if not isinstance(batches, range):
        return batches
    powers = (1 << power for power in range(batches[-1].bit_length()))
    return [batch for batch in powers if batch in batches] or [batches[0]]


def default_strategy(
    definition: StudyDefinition, space: SearchSpace, store: StudyStore, knowledge: Knowledge
) -> Strategy:
    """The rows in order, or the choice of the study's sampler."""
    if space.is_rows:
        return RowOrder(tuple(space.enumerate()))
    if definition.search.sampler == "grid":
        return GridOrder(space, definition.search.seed)
    asks = _ASKS_OF_GP if definition.search.sampler == "gp" else _ASKS
    return SamplerChoice(store, space, knowledge, definition.search.seed, asks)
