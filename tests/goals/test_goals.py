"""The goals: as their sentences say, in any order, on the frontier or explained; more never gives less."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tests.tuner.report_records import make_candidate, make_record
from phase8_tune.tuner.goals.filters import Filters, needed_bytes
from phase8_tune.tuner.goals.goals import KEPT, Goal, answer_goal, find_answer, find_answers, order_of
from phase8_tune.tuner.goals.loss import BAND, Horizon, expected_losses
from phase8_tune.tuner.goals.wording import why
from phase8_tune.tuner.records.frontier import Point, find_frontier, to_points
from phase8_tune.tuner.values.errors import NothingFitsError, UserInputError
from phase8_tune.tuner.values.measurement import Telemetry

from .points import MIB, make_point, point_lists

GOALS = st.sampled_from(list(Goal))
FILTERS = st.builds(
    Filters,
    min_seq=st.sampled_from([None, 256, 512, 1024]),
    min_parameters=st.sampled_from([None, 1_000_000, 50_000_000]),
    budget_bytes=st.sampled_from([None, *(size * 1000 * MIB for size in range(1, 5))]),
    tokens_per_update=st.sampled_from([None, 512, 1024, 2048]),
)


def answer_of(points: list[Point], goal: Goal, **asked: Any) -> Point:
    found = find_answer(Filters(**asked).select(points), goal, Horizon())
    assert found is not None
    return found.point


def passing(points: list[Point], filters: Filters) -> list[Point]:
    try:
        return filters.select(points)
    except NothingFitsError:
        return []


@given(point_lists(), GOALS, st.randoms(use_true_random=False))
def test_order_does_not_matter(points: list[Point], goal: Goal, chance: random.Random) -> None:
    shuffled = points.copy()
    chance.shuffle(shuffled)
    assert find_answer(shuffled, goal, Horizon()) == find_answer(points, goal, Horizon())


@given(point_lists(), GOALS)
def test_an_answer_is_on_the_frontier_or_explained(points: list[Point], goal: Goal) -> None:
    answer = find_answer(points, goal, Horizon())
    assert answer is not None
    is_on_it = answer.point in find_frontier(points)
    assert is_on_it == (not answer.beaten_by)
    assert is_on_it != any(
        line.startswith("not on the frontier: ") for line in why(answer, Filters(), Horizon())
    )
    if goal not in (Goal.CONTEXT, Goal.BALANCED):  # these two ask for what is no objective
        assert is_on_it
    if goal is Goal.CONTEXT:
        assert all(p.candidate.n_seq < answer.point.candidate.n_seq for p in answer.beaten_by)


@given(point_lists(), GOALS, FILTERS, FILTERS)
def test_asking_for_more_never_gives_less(
    points: list[Point], goal: Goal, one: Filters, other: Filters
) -> None:
    """What meets more conditions is met by the answer, and never better by the goal's own measure."""
    both = Filters(
        min_seq=max(one.min_seq or 0, other.min_seq or 0) or None,
        min_parameters=max(one.min_parameters or 0, other.min_parameters or 0) or None,
        budget_bytes=min((b for b in (one.budget_bytes, other.budget_bytes) if b), default=None),
        # Not the smaller one: to gather a larger update may take memory that a smaller one does not need
        tokens_per_update=one.tokens_per_update or other.tokens_per_update,
    )
    less, more = passing(points, one), passing(points, both)
    assert {p.record.digest for p in more} <= {p.record.digest for p in less}
    answer = find_answer(more, goal, Horizon())
    if answer is None:
        return
    point, before = answer.point, find_answer(less, goal, Horizon())
    assert before is not None
    assert point.candidate.n_seq >= (both.min_seq or 0)
    assert point.body_parameters >= (both.min_parameters or 0)
    assert both.budget_bytes is None or needed_bytes(point) <= both.budget_bytes
    assert both.tokens_per_update is None or point.candidate.items_per_step <= both.tokens_per_update
    if goal is Goal.BALANCED:  # what it promises of its model is the least of losses
        best = [expected_losses(these, Horizon())[0].loss for these in (less, more)]
        assert best[0] <= best[1]
    else:
        order = order_of(goal, Horizon())
        assert order(before.point) >= order(point)


@given(point_lists())
def test_balanced_is_what_its_sentence_says(points: list[Point]) -> None:
    chosen = answer_of(points, Goal.BALANCED)
    losses = expected_losses(points, Horizon())
    band = [item for item in losses if item.loss <= losses[0].loss * (1 + BAND)]
    assert chosen.body_parameters == min(item.point.body_parameters for item in band)
    of_model = [p for p in points if p.candidate.model == chosen.candidate.model]
    best = max(p.tokens_per_s for p in of_model)
    keeping = [p for p in of_model if p.tokens_per_s >= KEPT * best]
    assert chosen.candidate.n_seq == max(p.candidate.n_seq for p in keeping)
    of_cell = [p for p in of_model if p.candidate.n_seq == chosen.candidate.n_seq]
    near = [p for p in of_cell if p.tokens_per_s >= KEPT * max(q.tokens_per_s for q in of_cell)]
    assert chosen in near
    assert chosen.peak_bytes == min(p.peak_bytes for p in near)


@given(point_lists(), GOALS)
def test_the_next_best_answers_where_the_best_is_not_there(points: list[Point], goal: Goal) -> None:
    answer = find_answer(points, goal, Horizon())
    assert answer is not None
    second = find_answer([p for p in points if p != answer.point], goal, Horizon())
    assert answer.next_best == (second and second.point)


def test_a_goal_that_no_point_can_answer_is_refused_in_a_line() -> None:
    assert answer_goal([make_point()], Goal.BALANCED, Horizon()).point == make_point()
    with pytest.raises(
        NothingFitsError, match=r"^--goal balanced: expected a model of tokens, .* another goal$"
    ):
        answer_goal([], Goal.BALANCED, Horizon())


def test_each_goal_by_example() -> None:
    fast = make_point("nano", 256, tokens_per_s=9000, peak_mib=3000)
    large = make_point("medium", 256, tokens_per_s=400, peak_mib=4000)
    slower = make_point("medium", 256, 2, tokens_per_s=390, peak_mib=3500)
    long = make_point("small", 1024, tokens_per_s=800, peak_mib=2000)
    lean = make_point("small", 256, 1, tokens_per_s=100, peak_mib=1000)
    points = [slower, lean, long, large, fast]
    assert {a.goal: a.point for a in find_answers(points, Horizon())} == {
        Goal.THROUGHPUT: fast,
        Goal.MODEL_SIZE: large,
        Goal.CONTEXT: long,
        Goal.MEMORY: lean,
        Goal.COMPUTE_OPTIMAL: min(points, key=Horizon().loss),
        Goal.BALANCED: long,
    }
    assert find_answers([], Horizon()) == []


def with_power(point: Point, watts: float | None) -> Point:
    seconds = sum(point.record.measurement.samples_s)
    telemetry = None if watts is None else Telemetry(energy_j=watts * seconds)
    measurement = point.record.measurement.model_copy(update={"telemetry": telemetry})
    return replace(point, record=point.record.model_copy(update={"measurement": measurement}))


def test_power_is_asked_for_where_it_was_measured() -> None:
    thirsty = with_power(make_point(tokens_per_s=2000), 300.0)
    sparing = with_power(make_point(batch_size=2), 150.0)
    unknown = with_power(make_point(batch_size=3, tokens_per_s=9000), None)
    points = [thirsty, sparing, unknown]
    assert answer_of(points, Goal.THROUGHPUT, max_power_w=200.0) == sparing
    assert answer_of(points, Goal.THROUGHPUT, max_power_w=300.001) == thirsty
    with pytest.raises(NothingFitsError, match=r"^--max-power 100: .*; the least drew 150 W$"):
        answer_of(points, Goal.THROUGHPUT, max_power_w=100.0)
    with pytest.raises(UserInputError, match="--max-power: expected a run in which energy was measured"):
        answer_of([unknown], Goal.THROUGHPUT, max_power_w=100.0)


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"min_seq": 2048}, NothingFitsError, r"^--min-seq 2048: .*; the longest is 512$"),
        (
            {"min_parameters": 10**9},
            NothingFitsError,
            r"^--min-params 1,000,000,000: .*; the largest has 10,",
        ),
        ({"budget_bytes": 100 * MIB}, NothingFitsError, r"^--vram 100MB: .*; the least takes 1000MB$"),
        ({"tokens_per_update": 4}, NothingFitsError, r"^--tokens-per-update 4: .* has 2,048 tokens$"),
        (
            {"tokens_per_update": 4096, "budget_bytes": 1040 * MIB},
            NothingFitsError,
            r"^--tokens-per-update 4,096: .*; with gradients that stay .* the least takes 1,041.01 MB$",
        ),
        (
            {"models": ("xl",)},
            UserInputError,
            r"^--model: expected one of those that fit here \(small\), got xl$",
        ),
        (
            {"budget_bytes": 9 * 2**30},
            UserInputError,
            r"^--vram: expected at most the 8GB of this run, got 9GB",
        ),
    ],
)
def test_what_nothing_meets_is_said_in_one_line(
    asked: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Filters(**asked).select([make_point()])


def test_only_what_can_be_trained_answers() -> None:
    forward = to_points([make_record(make_candidate(mode="forward"))])
    with pytest.raises(NothingFitsError, match="no training configuration of this run fits its budget"):
        Filters().select(forward)
    other = to_points([make_record(make_candidate(workload="other"), parameters=5)])
    assert Filters().select([*forward, *other, make_point()]) == [make_point()]
