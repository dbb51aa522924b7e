"""What is proposed where nothing is known beforehand: a study's rows, or what its sampler asks for."""

from __future__ import annotations

import random
from collections.abc import Callable

from ..records.database import StudyStore
from ..records.knowledge import Knowledge
from ..study.definition import StudyDefinition
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from .strategy import RowOrder, Strategy

# A sampler that repeats itself this often has seen most of what it likes: the rest is taken from the list.
_ASKS = 16


class SamplerChoice(Strategy):
    """What the sampler of the study asks for, between a beginning and an end of our own.

    The first is the first of the space: with axes written from small to large it is the cheapest, so that a
    slow machine too has measured something when the time is up. When the sampler only repeats itself, it is
    any candidate that is open.
    """

    def __init__(self, store: StudyStore, space: SearchSpace, knowledge: Knowledge, seed: int) -> None:
        self._store, self._space = store, space
        self._rest = list(space.enumerate())  # in random order; without those at the end that are not open
        random.Random(seed + len(knowledge.settled)).shuffle(self._rest)

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        first = next(self._space.enumerate())
        if not knowledge.settled and knowledge.is_available(first):
            return first
        for _ in range(_ASKS):
            candidate = self._store.ask()
            if knowledge.is_available(candidate):
                return candidate
            if knowledge.is_settled(candidate):
                self._store.tell(knowledge.record_of(candidate), knowledge)
        while self._rest and not is_open(self._rest[-1]):
            self._rest.pop()  # for good: it is settled, under way or rejected
        return self._rest[-1] if self._rest else None


def default_strategy(
    definition: StudyDefinition, space: SearchSpace, store: StudyStore, knowledge: Knowledge
) -> Strategy:
    """The rows in order, or Optuna's TPE."""
    if space.is_rows:
        return RowOrder(tuple(space.enumerate()))
    return SamplerChoice(store, space, knowledge, definition.search.seed)
