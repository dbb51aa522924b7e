"""Counterfactuals of an answer: another budget, twice the sequence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.goals.goals import Goal, find_answer, order_of
from phase8_tune.tuner.goals.loss import Horizon
from phase8_tune.tuner.goals.what_if import double_context, with_budget
from phase8_tune.tuner.records.frontier import Point

from .points import MIB, make_point, point_lists


def test_the_fastest_at_the_shortest_sequence_that_is_twice_as_long() -> None:
    chosen = make_point("small", 256, 8)
    slow = make_point("small", 512, 1, tokens_per_s=100)
    fast = make_point("small", 512, 4, checkpointing=True, tokens_per_s=900)
    others = [make_point("nano", 512, 8, tokens_per_s=9000), make_point("small", 1024, 4, tokens_per_s=950)]
    doubled = double_context([chosen, slow, fast, *others], chosen)
    assert doubled is not None
    assert doubled.point == fast
    assert doubled.changed == ("n_seq", "batch_size", "gradient_checkpointing")
    assert double_context([chosen, *others[:1]], chosen) is None


@given(
    point_lists(),
    st.sampled_from([goal for goal in Goal if goal is not Goal.BALANCED]),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_more_memory_never_gives_less(points: list[Point], goal: Goal, one: int, other: int) -> None:
    low, high = sorted((one, other))
    less = with_budget(points, goal, Horizon(), low * 1000 * MIB)
    more = with_budget(points, goal, Horizon(), high * 1000 * MIB)
    if less is not None:
        assert more is not None
        order = order_of(goal, Horizon())
        assert order(more.point) >= order(less.point)
    if high >= 4:  # all of them
        assert more == find_answer(points, goal, Horizon())
