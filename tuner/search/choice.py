"""Which strategy a study is searched by, and what is not launched in it."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.database import StudyStore
from ..study.definition import StudyDefinition
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from .exhaustive import Exhaustive
from .foresight import Foresight
from .guided import GuidedSearch
from .proposals import default_strategy
from .savings import WithoutSavings
from .skips import PredictedMemoryRule, to_check
from .strategy import CandidateFilter, Preparation, Strategy


def choose_strategy(
    definition: StudyDefinition,
    space: SearchSpace,
    store: StudyStore,
    strategy: Strategy | None,
    filters: Sequence[CandidateFilter],
    foresight: Foresight | None,
    preparation: Preparation | None,
    *,
    budget_bytes: int,
) -> tuple[Strategy, Sequence[CandidateFilter]]:
    """The strategy and its filters. strategy, foresight, preparation: as `run_search` has them."""
    if strategy is None:
        strategy = default_strategy(definition, space, store, preparation)
    checks: Sequence[Candidate] = ()
    if foresight is not None:
        checks = to_check(space, foresight, definition.search)
        filters = (*filters, PredictedMemoryRule(foresight, checks))
    if definition.search.exhaustive and not space.is_rows:
        if foresight is not None:
            foresight.ask(space.savings)
        strategy = Exhaustive(space, foresight, checks, preparation)
    elif foresight is not None and not space.is_rows:
        strategy = GuidedSearch(foresight, strategy, checks, preparation, budget_bytes=budget_bytes)
    elif space.savings:
        strategy = WithoutSavings(strategy, space.savings)
    return strategy, filters
