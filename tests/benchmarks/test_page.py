"""The benchmark of the page, on a small one."""

from __future__ import annotations

from pathlib import Path

from phase8_tune.benchmarks.page import make_records, measure
from phase8_tune.tests.html.chromium import chromium
from phase8_tune.tests.html.pages import FACTS, page_run
from phase8_tune.tuner.html.page import render_html
from phase8_tune.tuner.records.results import Results


def test_everything_that_a_reader_does_is_timed(tmp_path: Path) -> None:
    results = Results.of(make_records(900))
    assert 0 < len(results.points) <= 900
    path = tmp_path / "report.html"
    path.write_text(render_html([page_run(results)], FACTS), encoding="utf-8")
    with chromium(tmp_path / "profile") as browser:
        rows = measure(browser, path, 1)
        assert browser.run("page.budget_mb < 0.9 * page.largest_mb")  # the line was dragged
        assert browser.run("document.getElementById('table').tHead.querySelector('[aria-sort]') !== null")
    assert len({row["what"] for row in rows}) == len(rows) == 10
    assert all(0 < row["median_ms"] <= row["worst_ms"] for row in rows)
