"""`phase8-tune compare`'s page: both runs in one, told apart by shape, and what changed beyond the noise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.records.run_directory import RunInfo
from phase8_tune.tuner.report.comparison_page import render_comparison_page
from phase8_tune.tuner.report.comparison_tables import ComparedRun

from ..tuner.report_records import BUDGET_BYTES, GPU, make_candidate, make_record
from ..tuner.test_compare import write_run
from .chromium import Chromium, opened_page
from .pages import EVIL, GB, with_details


def run_of(name: str, card: str, gain: float, budget_bytes: int = BUDGET_BYTES) -> ComparedRun:
    """Two models at two lengths, three batches each; gain: how much faster the larger is than in another."""
    device = GPU.model_copy(update={"name": card})
    records = [
        with_details(
            make_record(
                make_candidate(model=model, n_seq=n_seq, batch_size=batch, kernel_version="fast"),
                tokens_per_s=rate * batch * (gain if model == "small" else 1),
                peak_bytes=batch * GB,
                trial_number=number,
                device=device,
                budget_bytes=budget_bytes,
            ),
            energy_j=10.0,
        )
        for number, (model, n_seq, batch, rate) in enumerate(
            (model, n_seq, batch, rate)
            for model, rate in (("nano", 4000.0), ("small", 1000.0))
            for n_seq in (512, 1024)
            for batch in (1, 2, 4)
        )
    ]
    info = RunInfo(
        format_version=1,
        study=f"study {EVIL}",
        definition_digest="0" * 16,
        budget_bytes=budget_bytes,
        device_kind="cuda",
        device_name=card,
        created_at="2026-01-01T00:00:00+00:00",
    )
    return ComparedRun(name=name, info=info, records=tuple(records))


@pytest.fixture(scope="module")
def page() -> str:
    before, after = run_of("runs/before", "First GPU", 1.0), run_of("runs/after", "Second GPU", 1.5, 6 * GB)
    return render_comparison_page(before, after, "phase8-tune compare runs/before runs/after")


def test_what_changed_stands_above_the_plots(page: str) -> None:
    first, _, _ = page.partition('<section id="charts"')
    assert "Fit in both runs: 12; changed beyond the noise: 6, not beyond it: 6." in first
    [table] = re.findall(r"<h2>Changed by more than both intervals together</h2>\n(.*?)</table>", first, re.S)
    assert table.count("+50.0 %") == 6
    assert "nano" not in table
    assert EVIL not in page


def test_a_goal_has_the_answers_of_both_and_is_explained_once(page: str) -> None:
    told = re.findall(r'<article data-goal="balanced" data-run="(.)" data-digest="\w+">(.*?)</article>', page)
    assert [run for run, _ in told] == ["A", "B"]
    assert ["<b>balanced</b>" in text for _, text in told] == [True, False]
    assert all("<b>why</b>" in text for _, text in told)


@pytest.fixture(scope="module")
def browser(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with opened_page(page, tmp_path_factory.mktemp("compared")) as opened:
        yield opened
        assert len(opened.requests()) == 1


def test_points_of_two_runs_differ_in_their_shape(browser: Chromium) -> None:
    symbols = browser.run(
        "document.getElementById('plot').data.filter(t => t.customdata)"
        ".flatMap(t => t.customdata.map((i, n) => [page.rows[i].run, t.marker.symbol[n]]))"
    )
    assert {run: {symbol for of, symbol in symbols if of == run} for run in ("A", "B")} == {
        "A": {"circle"},
        "B": {"diamond"},
    }
    names = browser.run("document.getElementById('plot').data.map(t => t.name)")
    assert {"A, fast kernels", "B, fast kernels"} <= set(names)
    browser.scroll_to_plot("heat")
    rows = browser.run("document.getElementById('heat').data[0].y")
    assert rows == ["nano (A)", "nano (B)", "small (A)", "small (B)"]
    shapes = browser.run("document.getElementById('plot').layout.shapes.map(s => [s.x0, s.editable])")
    assert shapes == [[8192, True], [8192, False], [6144, False]]


def test_a_run_is_chosen_and_a_configuration_says_whose_it_is(browser: Chromium) -> None:
    browser.run(
        "{ const s = document.getElementById('filters').elements.run; s.value = 'B';"
        "s.dispatchEvent(new Event('change', {bubbles: true})); }"
    )
    assert browser.run("page.shown.map(r => r.run).join('')") == "B" * 12
    browser.run("keep(page.shown[0], true)")
    settings = browser.run("document.getElementById('yaml').textContent")
    assert "measured on Second GPU (device: cuda), training, under a budget of 6GB" in settings
    assert "B, Second GPU" in browser.run("document.getElementById('chosen-facts').textContent")


def compare(*arguments: str) -> int:
    return exit_code(lambda: main(["compare", *arguments]))


def test_it_is_written_beside_the_second_run_or_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, gain in (("before", 1.0), ("after", 1.5)):
        write_run(tmp_path / "runs" / name, list(run_of(name, "Example GPU", gain).records))
    assert compare("before", "after") == 0
    assert capsys.readouterr().out.endswith("To explore:   runs/after/compared-with-before.html\n")
    page = (tmp_path / "runs" / "after" / "compared-with-before.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert compare("before", "after", "--json", "--page", "mine.html") == 0
    json.loads(capsys.readouterr().out)
    assert (tmp_path / "mine.html").read_text(encoding="utf-8") == page
    assert compare("before", "after", "--page", "mine.html/other.html") == 2
    error = capsys.readouterr().err
    assert error.startswith("phase8-tune: mine.html/other.html: cannot be written: ")
    assert error.endswith("; name another place with --page\n")
    assert error.count("\n") == 1
