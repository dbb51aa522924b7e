"""The rule of what fits: its margins, as they are said and as they count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.predict.fits import RECOMMEND, LAUNCH, FitRule

SIZES = st.integers(min_value=0, max_value=1 << 45)


def test_each_use_says_its_margin() -> None:
    assert (RECOMMEND.condition, RECOMMEND.margin) == ("with 3% to spare", 0.03)
    assert (LAUNCH.condition, LAUNCH.margin) == ("with 1% more room", 0.01)


@given(SIZES)
def test_what_may_be_recommended_of_a_budget_is_held_by_it(budget: int) -> None:
    assert RECOMMEND.needed_bytes(RECOMMEND.budget_bytes(budget)) <= budget
    assert RECOMMEND.cap_bytes(budget) == budget


@given(SIZES)
def test_a_search_has_the_whole_budget_and_more_room_in_it(size: int) -> None:
    assert LAUNCH.budget_bytes(size) == LAUNCH.needed_bytes(size) == size <= LAUNCH.cap_bytes(size)


@given(SIZES)
def test_without_a_margin_nothing_moves(size: int) -> None:
    rule = FitRule()
    assert rule.budget_bytes(size) == rule.cap_bytes(size) == rule.needed_bytes(size) == size
