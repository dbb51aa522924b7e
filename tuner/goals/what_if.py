"""What another budget or another sequence would change in an answer, of the points that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..records.frontier import Point
from ..records.recommend import recommendation_name
from .filters import needed_bytes
from .goals import Answer, Goal, find_answer
from .loss import Horizon

GIB = 2**30
BUDGETS_BYTES = tuple(size * GIB for size in (4, 6, 8, 12, 16, 24))
"""Memory of common cards."""


def budgets_around(budget_bytes: int) -> list[int]:
    """The budgets of what is predicted for a run of one: those of common cards, its own, and 1 GB more."""
    return sorted({*BUDGETS_BYTES, budget_bytes, budget_bytes + GIB})


def beside_own(
    predicted: Mapping[int, Sequence[Point]], own: Sequence[Point], budget_bytes: int
) -> dict[int, list[Point]]:
    """What is predicted under each budget, where a plan's own points stand wherever they fit.

    They were followed one by one, and under the plan's own budget they are all that there is. Of a search
    the own points were measured: they stand beside no prediction, and what is predicted stays as it is.
    """
    planned = [point for point in own if point.record.measurement.predicted is not None]
    if not planned:
        return {size: list(points) for size, points in predicted.items()}
    names = {point.record.digest for point in planned}
    return {
        size: [point for point in planned if needed_bytes(point) <= size]
        + [point for point in points if size != budget_bytes and point.record.digest not in names]
        for size, points in predicted.items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubled:
    """What it takes to train an answer's model on at least twice its sequence.

    point: the fastest that does, at the shortest such sequence. changed: the names of the settings that
    differ.
    """

    point: Point
    changed: tuple[str, ...]


def with_budget(points: Sequence[Point], goal: Goal, horizon: Horizon, budget_bytes: int) -> Answer | None:
    """The answer where only so much memory is there; None where nothing fits it."""
    return find_answer([point for point in points if needed_bytes(point) <= budget_bytes], goal, horizon)


def double_context(points: Sequence[Point], chosen: Point) -> Doubled | None:
    """What doubles the sequence of a point in the same model; None where nothing of it fits."""
    name, length = recommendation_name(chosen.candidate), 2 * chosen.candidate.length
    longer = [p for p in points if recommendation_name(p.candidate) == name and p.candidate.length >= length]
    if not longer:
        return None
    shortest = min(point.candidate.length for point in longer)
    point = max(
        (p for p in longer if p.candidate.length == shortest),
        key=lambda p: (p.tokens_per_s, -p.peak_bytes, p.record.digest),
    )
    before, after = chosen.candidate.to_dict(), point.candidate.to_dict()
    return Doubled(point=point, changed=tuple(name for name in before if before[name] != after[name]))
