"""The goals, each defined in one sentence, and the point that answers one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..records.frontier import Point
from ..values.errors import NothingFitsError
from .loss import Horizon, ModelLoss, by_model, expected_losses

KEPT = 0.95
"""Share of the tokens/s that `balanced` may not fall below for a longer sequence, or for less memory."""


class Goal(StrEnum):
    """What a user may want; `sentence` is its one definition."""

    BALANCED = "balanced"
    THROUGHPUT = "throughput"
    MODEL_SIZE = "model-size"
    CONTEXT = "context"
    MEMORY = "memory"
    COMPUTE_OPTIMAL = "compute-optimal"

    @property
    def sentence(self) -> str:
        """What it means, exactly; the pages quote it."""
        return _SENTENCES[self]


_SENTENCES = {
    Goal.BALANCED: (
        "The model whose expected loss after 24 h is within 1 % of the best and smallest, the longest "
        "sequence that keeps 95 % of its tokens/s, and there the least memory within 5 % of the best "
        "tokens/s."
    ),
    Goal.THROUGHPUT: "The most tokens/s; of equals the least memory, then the largest model.",
    Goal.MODEL_SIZE: (
        "The largest model, position table not counted; of it the most tokens/s, then the least memory."
    ),
    Goal.CONTEXT: (
        "The longest sequence; of it the largest model, then the most tokens/s, then the least memory."
    ),
    Goal.MEMORY: "The least memory; of equals the most tokens/s, then the largest model.",
    Goal.COMPUTE_OPTIMAL: (
        "The model whose expected loss after the time of training is lowest at the tokens/s of this card, at "
        "its most tokens/s; of equals the least memory."
    ),
}

_Order = Callable[[Point], tuple[float, ...]]
_ORDERS: dict[Goal, _Order] = {
    Goal.THROUGHPUT: lambda p: (p.tokens_per_s, -p.peak_bytes, p.body_parameters),
    Goal.MODEL_SIZE: lambda p: (p.body_parameters, p.tokens_per_s, -p.peak_bytes),
    Goal.CONTEXT: lambda p: (p.candidate.length, p.body_parameters, p.tokens_per_s, -p.peak_bytes),
    Goal.MEMORY: lambda p: (-p.peak_bytes, p.tokens_per_s, p.body_parameters),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The point that answers a goal.

    next_best: what would, were this point not there; None where nothing else passes. beaten_by: points of
    the same choice that are better in an objective and worse in none, which the goal passes over for what is
    no objective; empty on the frontier. losses: what may be expected of each model, the lowest first; empty
    where the goal does not ask.
    """

    goal: Goal
    point: Point
    next_best: Point | None
    beaten_by: tuple[Point, ...]
    losses: tuple[ModelLoss, ...]


def find_answer(points: Sequence[Point], goal: Goal, horizon: Horizon) -> Answer | None:
    """The answer to a goal among training points, whose order does not matter; None where there are none.

    A goal that asks for a loss is answered by models of tokens alone, the longest sequence by what has one.
    """
    asks_for_loss = goal in (Goal.BALANCED, Goal.COMPUTE_OPTIMAL)
    if asks_for_loss:  # whose law is of tokens
        points = [point for point in points if point.candidate.spec.items == "tokens"]
    elif goal is Goal.CONTEXT:
        points = [point for point in points if point.candidate.spec.items_axis is not None]
    if not points:
        return None
    chosen = _choose(points, goal, horizon)
    others = [point for point in points if point.record.digest != chosen.record.digest]
    beaten_by = sorted(
        (p for p in others if p.dominates(chosen)), key=lambda p: (-p.tokens_per_s, p.record.digest)
    )
    return Answer(
        goal=goal,
        point=chosen,
        next_best=_choose(others, goal, horizon) if others else None,
        beaten_by=tuple(beaten_by),
        losses=expected_losses(points, horizon) if asks_for_loss else (),
    )


def answer_goal(points: Sequence[Point], goal: Goal, horizon: Horizon) -> Answer:
    """The answer to the one goal that was asked for.

    Raises: NothingFitsError where no point can answer it.
    """
    answer = find_answer(points, goal, horizon)
    if answer is None:
        what = "with a length" if goal is Goal.CONTEXT else "of tokens, whose loss can be expected"
        raise NothingFitsError(
            f"--goal {goal}: expected a model {what}, got none that fits here; take another goal"
        )
    return answer


def find_answers(points: Sequence[Point], horizon: Horizon) -> list[Answer]:
    """The answers to all goals among training points; none where there are none."""
    found = (find_answer(points, goal, horizon) for goal in Goal)
    return [answer for answer in found if answer is not None]


def order_of(goal: Goal, horizon: Horizon) -> _Order:
    """What a goal asks most of, as a tuple of which the largest wins.

    Raises: ValueError for `balanced`, which is no order but three steps.
    """
    if goal is Goal.BALANCED:
        raise ValueError("balanced: expected a goal that orders single points")
    if goal is Goal.COMPUTE_OPTIMAL:
        return lambda p: (-horizon.loss(p), -p.peak_bytes, p.tokens_per_s, p.body_parameters)
    return _ORDERS[goal]


def _choose(points: Sequence[Point], goal: Goal, horizon: Horizon) -> Point:
    if goal is Goal.BALANCED:
        return _balance(points, horizon)
    order = order_of(goal, horizon)
    return max(points, key=lambda p: (order(p), p.record.digest))


def _balance(points: Sequence[Point], horizon: Horizon) -> Point:
    band = [item for item in expected_losses(points, horizon) if item.in_band]
    model = min(band, key=lambda item: (item.point.body_parameters, item.loss, item.model)).model
    of_model = by_model(points)[model]
    best = max(point.tokens_per_s for point in of_model)
    length = max(p.candidate.length for p in of_model if p.tokens_per_s >= KEPT * best)
    of_cell = [point for point in of_model if point.candidate.length == length]
    best = max(point.tokens_per_s for point in of_cell)
    near = [point for point in of_cell if point.tokens_per_s >= KEPT * best]
    return min(near, key=lambda p: (p.peak_bytes, -p.tokens_per_s, p.record.digest))
