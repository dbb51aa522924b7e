"""What is likely under other budgets: from outlooks, kept in a run, and told in its report and page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phase8_tune.tests.tuner.outlooks import outlook_of
from phase8_tune.tests.tuner.report_records import make_candidate, make_record
from phase8_tune.tests.tuner.search_bench import BUDGET_BYTES
from phase8_tune.tests.tuner.test_report import make_facts, section, table
from phase8_tune.tuner.goals.what_if import GIB, beside_own, budgets_around
from phase8_tune.tuner.predict.outlook import Outlook
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.records.frontier import Point, to_points
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.report.markdown import render_report
from phase8_tune.tuner.report.page import render_page
from phase8_tune.tuner.search.estimates import FILE, estimate_under, keep_estimates, read_estimates
from phase8_tune.tuner.values.errors import UserInputError

CARD = gpu_profile("rtx-3060")
AT = "2026-01-01T00:00:00+00:00"


def outlook(model: str = "small", largest: int = 100, rate: float = 1000.0, n_seq: int = 512) -> Outlook:
    line = make_candidate(model=model, n_seq=n_seq, kernel_version="fast")
    return outlook_of(line, range(1, 16385), largest, lambda batch: rate * batch / (batch + 1))


def estimate(outlooks: list[Outlook], *budgets_bytes: int) -> list[Point]:
    return to_points(estimate_under(outlooks, BUDGET_BYTES, CARD, budgets_bytes, AT))


def largest(points: list[Point]) -> int:
    return max((point.candidate.batch_size for point in points), default=0)


def test_under_its_own_budget_it_is_what_fits() -> None:
    # 3 % to spare, and the rounder batch of those near to the largest.
    assert largest(estimate([outlook(largest=100)], BUDGET_BYTES)) == 96
    assert largest(estimate([outlook(largest=100)], 2 * BUDGET_BYTES)) == pytest.approx(192, abs=4)
    assert largest(estimate([outlook(largest=100)], BUDGET_BYTES // 2)) == pytest.approx(48, abs=2)


@settings(max_examples=25)
@given(st.integers(0, 3000), st.lists(st.integers(1, 64), min_size=2, max_size=2))
def test_more_memory_never_gives_less_and_nothing_exceeds_it(most: int, budgets: list[int]) -> None:
    low, high = sorted(size * GIB // 2 for size in budgets)
    less, more = (estimate([outlook(largest=most)], size) for size in (low, high))
    assert largest(less) <= largest(more)
    for points, size in ((less, low), (more, high)):
        for point in points:
            assert point.peak_bytes <= size
            figures = point.record.measurement.predicted
            assert figures is not None
            assert figures.peak_bytes_high <= size


def test_what_does_not_fit_may_fit_a_larger_budget() -> None:
    lines = [outlook("xl", largest=0)]
    assert estimate(lines, BUDGET_BYTES) == []
    assert largest(estimate(lines, 3 * BUDGET_BYTES)) >= 1


def test_they_are_kept_with_the_run_by_budget(tmp_path: Path) -> None:
    assert read_estimates(tmp_path) == {}
    for rate in (1.0, 1000.0):  # those of now take the place of those of before
        keep_estimates(tmp_path, [outlook(rate=rate)], BUDGET_BYTES, CARD, BUDGET_BYTES, AT)
    kept = read_estimates(tmp_path)
    assert list(kept) == budgets_around(BUDGET_BYTES)
    assert BUDGET_BYTES + GIB in kept
    assert 900 < max(point.tokens_per_s for point in kept[BUDGET_BYTES]) < 1000
    path = tmp_path / FILE
    path.write_text(path.read_text(encoding="utf-8").replace('"format_version":3', '"format_version":99', 1))
    with pytest.raises(UserInputError, match="later version of phase8-tune"):
        read_estimates(tmp_path)


def test_report_and_page_tell_what_more_memory_gives_and_the_frontier_of_other_cards() -> None:
    lines = [outlook("small", 100, 2000.0), outlook("medium", 10, 500.0)]
    budget_bytes = make_facts().budget_bytes
    found = estimate_under(lines, budget_bytes, CARD, budgets_around(budget_bytes), AT)
    by_budget = {
        size: to_points(record for record in found if record.budget_bytes == size)
        for size in budgets_around(budget_bytes)
    }
    results = Results.of(
        [make_record(make_candidate(batch_size=90, kernel_version="fast"), tokens_per_s=2100)]
    )
    facts = make_facts(estimates=by_budget)
    report = render_report(results, facts)
    answer = section(report, "## The answer for")
    assert "With 7GB, 1 GB less: the same configuration." in answer
    assert "With 9GB, 1 GB more: " in answer
    assert ", predicted with 8GB." in answer
    assert "Twice the sequence: no configuration of this model in this run fits it." in answer
    head, balanced, *models = table(section(report, "## Under other budgets (predicted)"))
    assert head == ["Model", "4GB", "6GB", "8GB (this run)", "12GB", "16GB", "24GB"]
    assert balanced[0] == "balanced"
    assert [row[0] for row in models] == ["small", "medium"]
    # Under its own budget the run knows what it measured.
    assert balanced[3] == "small 90×512 2,100"
    assert [cell.rpartition(" ")[2] for cell in models[0][1:]][:4] == ["~1,960", "~1,970", "2,100", "~1,990"]
    assert [cell == "-" for cell in models[1][1:]] == [False, False, True, False, False, False]
    assert "Under other budgets (predicted)" in render_page(results, facts)
    without = render_report(results, make_facts())
    assert "Under other budgets" not in without
    assert "1 GB more: nothing is predicted, as of other budgets this run keeps nothing: " in without


def test_of_a_plan_its_own_points_stand_where_they_fit() -> None:
    """Or its table would name another batch under its own budget than its answer does."""
    roughly = {
        size * GIB: to_points(estimate_under([outlook()], BUDGET_BYTES, CARD, [size * GIB], AT))
        for size in (4, 8, 12)
    }
    followed = [
        replace(point, peak_bytes=point.peak_bytes + 1, tokens_per_s=7.0)
        for point in (max(points, key=lambda p: p.peak_bytes) for points in roughly.values())
    ][:2]
    found = beside_own(roughly, followed, 8 * GIB)
    assert found[8 * GIB] == followed
    assert [p for p in found[4 * GIB] if p.tokens_per_s == 7.0] == followed[:1]
    assert [p for p in found[12 * GIB] if p.tokens_per_s == 7.0] == followed
    for points in found.values():
        assert len({point.record.digest for point in points}) == len(points)
    measured = to_points([make_record(make_candidate(batch_size=90), tokens_per_s=2100)])
    assert beside_own(roughly, measured, 8 * GIB) == roughly
