"""Strategies that are replayed: this project's, those of Optuna, and those of trainer libraries."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from ..tuner.records.knowledge import Knowledge
from ..tuner.search.foresight import Foresight
from ..tuner.search.guided import GuidedSearch
from ..tuner.search.proposals import SamplerChoice
from ..tuner.search.skips import PredictedMemoryRule
from ..tuner.search.strategy import DEFAULT_FILTERS, CandidateFilter, Strategy
from ..tuner.study.space import SearchSpace
from ..tuner.values.candidate import Candidate
from .search_replay import Contest, Contestant


class DoublingThenBisection(Strategy):
    """Line after line in random order: the batch is doubled until memory runs out, and what lies between
    the last that fitted and the first that did not is halved, to the largest that fits.

    As trainer libraries scale a batch, which know no other setting: here they get every one.
    """

    has_plan = False

    def __init__(self, space: SearchSpace, seed: int) -> None:
        lines = list(space.lines)
        random.Random(seed).shuffle(lines)
        self._space, self._lines = space, deque(lines)

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        while self._lines:
            line = self._lines[0]
            batch = _next_batch(self._space.batches(line), line, knowledge)
            if batch is not None and is_open(line.at(batch)):
                return line.at(batch)
            self._lines.popleft()
        return None


def _next_batch(batches: Sequence[int], line: Candidate, knowledge: Knowledge) -> int | None:
    """The next to try of a line, None where its largest that fits is known."""
    low, doubled = 0, batches[0]
    while (known := _fits(knowledge, line.at(doubled))) is not False:
        if known is None:
            return doubled
        low, larger = doubled, [batch for batch in batches if batch > doubled]
        if not larger:
            return None
        doubled = next((batch for batch in larger if batch >= 2 * doubled), larger[-1])
    between = [batch for batch in batches if low < batch < doubled] if low else []
    while between:
        middle = between[len(between) // 2]
        known = _fits(knowledge, line.at(middle))
        if known is None:
            return middle
        between = [batch for batch in between if (batch > middle if known else batch < middle)]
    return None


def _fits(knowledge: Knowledge, candidate: Candidate) -> bool | None:
    """None where it was not tried."""
    return knowledge.record_of(candidate).fits if knowledge.is_settled(candidate) else None


class MicroBatchGrid(Strategy):
    """Line after line in random order the powers of two, from one up until memory runs out."""

    has_plan = False

    def __init__(self, space: SearchSpace, seed: int) -> None:
        lines = list(space.lines)
        random.Random(seed).shuffle(lines)
        powers = (line.at(b) for line in lines for b in space.batches(line) if b & (b - 1) == 0)
        self._points = deque(powers)

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        while self._points:
            candidate = self._points.popleft()
            if is_open(candidate):
                return candidate
        return None


def _sampled(contest: Contest) -> Strategy:
    return SamplerChoice(contest.store, contest.space)


def _guided(contest: Contest) -> Strategy:
    table = contest.table
    return GuidedSearch(Foresight.of(table.outlooks), _sampled(contest), budget_bytes=table.budget_bytes)


def _predicted_rules(contest: Contest) -> tuple[CandidateFilter, ...]:
    return (*DEFAULT_FILTERS, PredictedMemoryRule(Foresight.of(contest.table.outlooks)))


CONTESTANTS = {
    "phase8-tune": Contestant(make=_guided, sampler="tpe", rules=_predicted_rules),
    "TPE": Contestant(make=_sampled, sampler="tpe"),
    "NSGA-II": Contestant(make=_sampled, sampler="nsga2"),
    "random": Contestant(make=_sampled),
    "doubling, then bisection": Contestant(make=lambda c: DoublingThenBisection(c.space, c.seed)),
    "micro-batch grid": Contestant(make=lambda c: MicroBatchGrid(c.space, c.seed)),
}
"""By their names; this project's first."""
