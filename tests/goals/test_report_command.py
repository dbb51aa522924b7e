"""`phase8-tune report`: the report of runs that earlier versions left, and of one of now, made again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tests.tuner.outlooks import outlook_of
from phase8_tune.tests.tuner.report_records import make_candidate
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.predict.outlook import Outlook
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.records.run_directory import read_run_info
from phase8_tune.tuner.report.kept_facts import FILE, read_facts
from phase8_tune.tuner.report.outputs import write_outputs
from phase8_tune.tuner.search import decisions
from phase8_tune.tuner.search.skips import Skips

FORMATS = Path(__file__).parent.parent / "formats"
RUNS = [
    *(f"2026-11-main/{name}" for name in ("finished", "interrupted", "planned")),
    "2026-11-records-2/finished",
]
WRITTEN = ("report.html", "report.md", "trials.csv", "frontier.svg", "frontier.png", FILE)


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a run, by default a plan."""
    name = getattr(request, "param", "2026-11-main/planned")
    return Path(shutil.copytree(FORMATS / name, tmp_path / "run"))


def report(root: Path, *options: str) -> int:
    return exit_code(lambda: main(["report", str(root), *options]))


@pytest.mark.parametrize("root", RUNS, indirect=True)
def test_a_run_of_an_earlier_version_has_all_files_of_now(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = (root / "records.jsonl").read_bytes()
    assert report(root) == 0
    shown = capsys.readouterr().out
    assert f"To explore:   {root / 'report.html'}\n" in shown
    assert f"phase8-train {root}/recommended/goal-balanced.yaml --data FILE" in shown
    assert [name for name in WRITTEN if not (root / name).stat().st_size] == []
    page = (root / "report.html").read_text(encoding="utf-8")
    assert read_run_info(root).device_name in page
    assert report(root) == 0
    assert (root / "report.html").read_text(encoding="utf-8") == page
    assert (root / "records.jsonl").read_bytes() == journal


def test_every_rate_of_a_plan_is_marked_predicted(root: Path) -> None:
    assert report(root) == 0
    for name in ("report.md", "report.html"):
        text = (root / name).read_text(encoding="utf-8").partition("<script")[0]
        rates = re.findall(r"(~?\d[\d,.]*)(?: \([^()]*\))? tokens/s", text)
        assert rates
        assert [rate for rate in rates if not rate.startswith("~")] == []


def test_what_only_the_search_knew_is_there_again(root: Path) -> None:
    info, results = read_run_info(root), Results.of(read_records(root / "records.jsonl"))
    told = read_facts(root, info, results)
    skips = Skips(skipped=1, checked=2, wrong=3, launched=4, ran_out=5)
    facts = replace(
        told, reserve_bytes=7 * 2**20, command="phase8-tune --vram 4GB", missing_versions=("v9",), skips=skips
    )
    assert told != facts
    write_outputs(results, facts, is_early=True)
    assert read_facts(root, info, results) == facts


def _later(root: Path) -> None:
    assert report(root) == 0
    path = root / FILE
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 99'))


def _broken(root: Path) -> None:
    (root / FILE).write_text("{")


def _unfinished(root: Path) -> None:
    (root / "plan.json").unlink()


def _nothing(root: Path) -> None:
    (root / "records.jsonl").write_text("")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_later, "made by a later version of phase8-tune"),
        (_broken, "remove it, and the report is made of what the records tell"),
        (_unfinished, "expected a whole plan, got one that was interrupted; run its command again"),
        (_nothing, "expected a run in which something was measured, got none yet"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    root: Path, change: Callable[[Path], None], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(root)
    capsys.readouterr()
    assert report(root) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert text in line


@pytest.mark.parametrize("root", ["2026-11-main/finished"], indirect=True)
def test_nothing_is_predicted_of_a_cpu(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(root, "--what-if") == 2
    assert "expected a run of a card whose figures are known, got one of a CPU" in capsys.readouterr().err
    assert report(root) == 0
    assert "1 GB more: nothing is predicted, as it is of a CPU." in (root / "report.md").read_text("utf-8")


def test_other_budgets_are_predicted_and_kept_when_asked(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tracing is made up: it takes as long as a plan."""
    line = make_candidate(model="nano", n_seq=64, kernel_version="fast")

    def decide(
        definition: Any, predictor: Any, budget: int, tell: Callable[[Outlook], None], on: object
    ) -> Any:
        assert (definition.name, predictor.profile.name, budget) == ("planned", "rtx-3080-laptop", 4 * 2**30)
        tell(outlook_of(line, range(1, 4096), 500, lambda batch: 1e6 * batch / (batch + 1)))
        return SimpleNamespace()

    monkeypatch.setattr(decisions, "decide", decide)
    assert report(root) == 0
    assert "Under other budgets" not in (root / "report.md").read_text("utf-8")
    assert report(root, "--what-if") == 0
    for name in ("report.md", "report.html"):
        text = (root / name).read_text("utf-8")
        assert "Under other budgets (predicted)" in text
        assert "4GB (this run)" in text
    budgets = {json.loads(line)["budget_bytes"] // 2**30 for line in (root / "budgets.jsonl").open()}
    assert budgets == {4, 5, 6, 8, 12, 16, 24}
    assert report(root) == 0  # and stays there
    assert "Under other budgets (predicted)" in (root / "report.md").read_text("utf-8")
