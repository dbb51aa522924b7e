"""A study of a user's own file from the command line to the report, on the processor."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.values import workload_spec

STUDY = """\
name: mine
workload: own_model.py:FACTORY
axes: {model: [narrow], batch_size: [BATCHES], size: [8], precision: [none]}
search: {trials: 2}
timing: {warmup: 1, iterations: 2}
"""
JOURNAL = Path("runs") / "mine-2GB-cpu" / "records.jsonl"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(Path(__file__).with_name("own_model.py"), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def run(*arguments: str) -> int:
    return exit_code(lambda: main(list(arguments)))


def search(folder: Path, factory: str, batches: str) -> tuple[int, list[dict[str, str]]]:
    text = STUDY.replace("FACTORY", factory).replace("BATCHES", batches)
    (folder / "study.yaml").write_text(text)
    code = run("--vram", "2GB", "--device", "cpu", "--study", "study.yaml")
    with (folder / "runs" / "mine-2GB-cpu" / "trials.csv").open() as file:
        return code, list(csv.DictReader(file))


def test_it_is_searched_reported_and_drawn_again_without_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, rows = search(folder, "build", "2, 4")
    assert code == 0
    assert [(row["outcome"], row["size"], row["smooth"]) for row in rows] == [("ok", "8", "False")] * 2
    report = (folder / "runs" / "mine-2GB-cpu" / "report.md").read_text()
    assert report.startswith("# Small classifier benchmark: mine on ")
    assert "images/s" in report
    assert "tokens/s" not in report
    assert not list((folder / "runs" / "mine-2GB-cpu" / "recommended").glob("*.yaml"))
    capsys.readouterr()
    (folder / "own_model.py").unlink()
    monkeypatch.setattr(workload_spec, "_known", {})  # as another process
    assert run("frontier", "mine-2GB-cpu") == 0
    assert "Images/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("factory", "outcomes", "message"),
    [
        ("raises", ["own_error"], "KeyError: 'no such layer' (own_model.py:"),
        ("nothing", ["own_error"], "WorkloadError: expected nothing ("),
        ("dies", ["error", "error"], "the worker exited with code 7"),  # the same words twice are no chance
    ],
)
def test_a_failure_of_its_code_costs_a_candidate(
    folder: Path, capsys: pytest.CaptureFixture[str], factory: str, outcomes: list[str], message: str
) -> None:
    code, rows = search(folder, factory, "2")
    is_own = "own_error" in outcomes
    assert code == (2 if is_own else 4)
    assert (message in capsys.readouterr().err.splitlines()[-1]) == is_own
    records = read_records(JOURNAL)
    assert [record.measurement.outcome for record in records] == outcomes
    versions = [json.loads(line)["format_version"] for line in JOURNAL.read_text().splitlines()]
    assert versions == [5 if outcome == "own_error" else 4 for outcome in outcomes]
    for row in rows:
        assert message in row["message"], row["message"]
