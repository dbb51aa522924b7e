"""The frontier that a study is predicted to have under other budgets than it was searched with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..predict.prediction import Predictor
from ..records.frontier import Point, to_points
from ..study.definition import StudyDefinition
from ..values.errors import NothingFitsError
from .decisions import decide, to_records


def predict_under(
    definition: StudyDefinition,
    predictor: Predictor,
    budgets_bytes: Sequence[int],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, list[Point]]:
    """What is worth recording of a plan under each budget, as predicted points; none where nothing fits.

    A budget above what the card has is that of a card as fast with as much memory.

    on_progress: has thousandths of each budget, of as many as there are, each number once.
    Raises: UserInputError where a version does not take a model.
    """
    found: dict[int, list[Point]] = {}
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        now = 1000 * len(found) + 1000 * done // total
        if now > told:
            told = now
            on_progress(now, 1000 * len(budgets_bytes))

    for budget_bytes in budgets_bytes:
        try:
            plan = decide(definition, _with_room(predictor, budget_bytes), budget_bytes, on_progress=tell)
        except NothingFitsError:  # less than the context alone
            found[budget_bytes] = []
            continue
        records = to_records(plan, predictor.profile, budget_bytes=budget_bytes, started_at="")
        found[budget_bytes] = to_points(records)
    return found


def _with_room(predictor: Predictor, budget_bytes: int) -> Predictor:
    """Predicts for the same card with at least so much memory."""
    profile = predictor.profile
    capacity_bytes = max(profile.capacity_bytes, budget_bytes)
    return replace(predictor, profile=profile.model_copy(update={"capacity_bytes": capacity_bytes}))
