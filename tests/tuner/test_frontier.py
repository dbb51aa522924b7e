"""The frontier: order does not matter, no survivor is dominated, every other is dominated by a survivor."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.records.cells import cell_of, frontier_of_cells
from phase8_tune.tuner.records.frontier import find_frontier, settle, to_points
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from .report_records import BUDGET_BYTES, make_candidate, make_record

# Few distinct values, so that ties and dominated points are common.
_OBJECTIVES = st.tuples(
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.sampled_from(["train", "forward"])
)


@st.composite
def record_lists(draw: st.DrawFn) -> list[Record]:
    drawn = draw(st.lists(_OBJECTIVES, max_size=16))
    return [
        make_record(
            make_candidate(batch_size=index + 1, mode=mode),
            tokens_per_s=float(speed),
            peak_bytes=peak,
            parameters=parameters,
        )
        for index, (speed, peak, parameters, mode) in enumerate(drawn)
    ]


@given(record_lists(), st.randoms(use_true_random=False))
def test_order_does_not_matter(records: list[Record], chance: random.Random) -> None:
    shuffled = records.copy()
    chance.shuffle(shuffled)
    assert find_frontier(to_points(shuffled)) == find_frontier(to_points(records))


@given(record_lists())
def test_survivors_are_undominated_and_dominate_the_rest(records: list[Record]) -> None:
    points = to_points(records)
    front = find_frontier(points)
    kept = {p.record.digest for p in front}
    for point in points:
        same_mode = [q for q in front if q.candidate.mode == point.candidate.mode]
        assert any(q.dominates(point) for q in same_mode) == (point.record.digest not in kept)


@given(record_lists())
def test_frontier_of_the_frontier_is_itself(records: list[Record]) -> None:
    front = find_frontier(to_points(records))
    assert find_frontier(front) == front


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-01-01T00:00:01+00:00", "2026-01-01T00:00:01.500+00:00"),  # of before and of after milliseconds
        ("2026-01-01T00:00:01.900+00:00", "2026-01-01T00:00:02+00:00"),
        ("2026-01-01T13:30:00.000+02:00", "2026-01-01T12:00:00.000+00:00"),  # another zone
        ("", "2026-01-01T00:00:01+00:00"),  # not noted
    ],
)
def test_of_the_same_attempt_twice_the_later_counts_by_the_clock(earlier: str, later: str) -> None:
    first, second = (
        make_record().model_copy(update={"started_at": text, "trial_number": number})
        for number, text in ((1, earlier), (0, later))
    )
    assert settle([first, second]) == settle([second, first]) == [second]


def test_equal_points_both_survive() -> None:
    records = [make_record(make_candidate(batch_size=b), parameters=7) for b in (1, 2)]
    assert len(find_frontier(to_points(records))) == 2


def test_a_longer_sequence_is_no_larger_model() -> None:
    short, long = (make_record(make_candidate(n_seq=n_seq), tokens_per_s=n_seq) for n_seq in (512, 1024))
    (best,) = find_frontier(to_points([short, long]))
    assert best.candidate.n_seq == 1024
    slower = make_record(make_candidate(n_seq=1024), tokens_per_s=100)
    (best,) = find_frontier(to_points([short, slower]))
    assert best.candidate.n_seq == 512
    assert best.parameters == best.body_parameters + 512 * 512


@given(record_lists())
def test_the_frontier_of_a_cell_is_what_no_other_of_it_beats(records: list[Record]) -> None:
    longer = [p.candidate.changed(n_seq=1024) for p in to_points(records)[::2]]
    points = to_points([*records, *(make_record(candidate) for candidate in longer)])
    kept = frontier_of_cells(points)
    for point in points:
        cell = [q for q in points if cell_of(q.candidate) == cell_of(point.candidate)]
        assert (point in kept) == (not any(q.dominates(point) for q in cell))
    cells = [cell_of(p.candidate) for p in kept]
    assert len(list(itertools.groupby(cells))) == len(set(cells))  # each in one piece


def test_the_best_of_a_sequence_is_shown_although_another_sequence_beats_it() -> None:
    short, long = (make_record(make_candidate(n_seq=n_seq), tokens_per_s=n_seq) for n_seq in (512, 1024))
    points = to_points([long, short])
    assert [p.candidate.n_seq for p in frontier_of_cells(points)] == [512, 1024]
    assert [p.candidate.n_seq for p in find_frontier(points)] == [1024]


def test_modes_are_not_compared() -> None:
    slow = make_record(make_candidate(mode="train"), tokens_per_s=10)
    fast = make_record(make_candidate(mode="forward"), tokens_per_s=1000, peak_bytes=2**20)
    assert len(find_frontier(to_points([slow, fast]))) == 2


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.OK])
def test_only_successes_are_points(outcome: Outcome) -> None:
    assert to_points([make_record(outcome=outcome)]) == []


def test_a_peak_over_the_budget_is_no_point() -> None:
    assert to_points([make_record(peak_bytes=BUDGET_BYTES + 1)]) == []
    assert len(to_points([make_record(peak_bytes=BUDGET_BYTES)])) == 1


def test_a_success_without_an_objective_is_no_point() -> None:
    assert to_points([make_record(peak_bytes=None)]) == []


def test_of_several_attempts_the_undisturbed_success_counts() -> None:
    disturbed = make_record(tokens_per_s=2000, attempt=1, tainted=("throttled",))
    clean = make_record(tokens_per_s=1000, attempt=2)
    failed = make_record(outcome=Outcome.ERROR, attempt=3)
    for order in ([disturbed, clean, failed], [failed, clean, disturbed]):
        assert settle(order) == [clean]
    assert settle([failed, disturbed]) == [disturbed]
