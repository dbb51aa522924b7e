"""What another budget or another sequence would change in an answer, of the points that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..records.frontier import Point
from ..records.recommend import recommendation_name
from .filters import needed_bytes
from .goals import Answer, Goal, find_answer
from .loss import Horizon

GIB = 2**30
BUDGETS_BYTES = tuple(size * GIB for size in (4, 6, 8, 12, 16, 24))
"""Memory of common cards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubled:
    """What it takes to train an answer's model on at least twice its sequence.

    point: the fastest that does, at the shortest such sequence. changed: the settings that differ, as
    (name, before, then).
    """

    point: Point
    changed: tuple[tuple[str, str, str], ...]


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
    changed = tuple((key, str(before[key]), str(after[key])) for key in before if before[key] != after[key])
    return Doubled(point=point, changed=changed)
