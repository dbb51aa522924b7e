"""The rule of what fits: its margins, as they are said and as they count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.predict.fits import EXACT, LAUNCH, RECOMMEND, FitRule

SIZES = st.integers(min_value=0, max_value=1 << 45)


def test_each_use_says_its_margin() -> None:
    assert (RECOMMEND.condition, RECOMMEND.margin) == ("with 3% to spare", 0.03)
    assert (LAUNCH.condition, LAUNCH.margin) == ("with 1% less room", 0.01)
    assert FitRule(more_room=0.02).condition == "with 2% more room"


@given(SIZES)
def test_what_may_be_recommended_of_a_budget_is_held_by_it(budget: int) -> None:
    assert RECOMMEND.needed_bytes(RECOMMEND.budget_bytes(budget)) <= budget
    assert RECOMMEND.cap_bytes(budget) == budget


@given(SIZES)
def test_a_search_leaves_a_hundredth_of_torchs_room(size: int) -> None:
    """The largest whole number of bytes that is no more than 99 %; 0 of 1, under which nothing fits."""
    assert LAUNCH.budget_bytes(size) == LAUNCH.needed_bytes(size) == size
    assert 100 * LAUNCH.cap_bytes(size) <= 99 * size < 100 * (LAUNCH.cap_bytes(size) + 1)


@given(budget=SIZES, share=st.floats(0, 1))
def test_what_is_recommended_is_launched_too_and_runs(budget: int, share: float) -> None:
    """Whatever part of the budget is outside of torch: the lower cap never is the higher one."""
    outside = int(budget * share)
    recommended, launched, own = (
        rule.cap_bytes(max(rule.budget_bytes(budget) - outside, 0)) for rule in (RECOMMEND, LAUNCH, EXACT)
    )
    assert recommended <= launched + 1  # of bytes that are cut off
    assert launched <= own == budget - outside


@given(SIZES)
def test_under_its_own_cap_nothing_moves(size: int) -> None:
    assert FitRule() == EXACT
    assert EXACT.budget_bytes(size) == EXACT.cap_bytes(size) == EXACT.needed_bytes(size) == size
