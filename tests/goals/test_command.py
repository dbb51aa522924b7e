"""`phase8-tune recommend`: on runs that earlier versions left, in words, as a file and as JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.commands import recommend as command
from phase8_tune.tuner.commands import what_if
from phase8_tune.tuner.goals.goals import Goal
from phase8_tune.tuner.goals.loss import LAWS
from phase8_tune.tuner.goals.what_if import BUDGETS_BYTES, GIB
from phase8_tune.tuner.training.recommended import read_reasons
from phase8_tune.tuner.training.settings import load_settings

from .points import make_point

EARLIER = Path(__file__).parent.parent / "formats" / "2026-11-main"
RUNS = ("finished", "interrupted", "planned")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of an earlier version, where a command would look for them."""
    monkeypatch.chdir(tmp_path)
    for name in RUNS:
        shutil.copytree(EARLIER / name, tmp_path / "runs" / name)
    return tmp_path / "runs"


def recommend(*arguments: str) -> int:
    return exit_code(lambda: main(["recommend", *arguments]))


@pytest.mark.parametrize("run", RUNS)
def test_every_goal_of_a_run_is_a_file(runs: Path, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend(run) == 0
    shown = capsys.readouterr().out
    for goal in Goal:
        path = runs / run / "recommended" / f"goal-{goal}.yaml"
        settings = load_settings(path)
        assert (settings.predicted is None) == (run != "planned")
        reasons = read_reasons(path.read_text(encoding="utf-8"))
        assert reasons[0] == f"goal {goal}: {goal.sentence}"
        assert reasons[1].startswith("why: ")
        assert reasons[2].startswith("next best: ")
        assert f"\n{goal} " in shown
    assert f"Next:  phase8-train runs/{run}/recommended/goal-balanced.yaml --data FILE" in shown


def test_one_goal_is_told_in_words(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--goal", "compute-optimal", "--train-time", "1h", "--data-tokens", "10k", "--law", "hoffmann")
    assert recommend("planned", *options, "--min-seq", "64") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        "compute-optimal: nano 8×64 fast bf16 train: ~173,000 tokens/s, 672 MB, predicted"
    )
    assert "  asked: --min-seq 64\n" in shown
    assert "after 1 h 00 min; within 1%: nano" in shown
    assert LAWS["hoffmann"].title in shown
    assert "57 M parameters and more" in shown
    assert "seen more than 4 times" in shown
    assert {path.name for path in (runs / "planned" / "recommended").glob("goal-*")} == {
        "goal-compute-optimal.yaml"
    }


def test_of_a_smaller_budget_it_is_said_what_the_run_holds(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "Chosen among what this run recorded, whose batches are those for 4GB: a run with --vram 3GB has"
    for options in (("--goal", "context"), ("--goal", "balanced"), ()):
        assert recommend("planned", "--vram", "3GB", *options) == 0
        assert told in capsys.readouterr().out
        assert recommend("planned", "--vram", "4GB", *options) == 0
        assert told not in capsys.readouterr().out


def test_json_is_all_that_is_printed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend("finished", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [answer["goal"] for answer in found["answers"]] == list(Goal)
    for answer in found["answers"]:
        settings = load_settings(Path(answer["file"]))
        assert settings.measured is not None
        assert settings.measured.digest == answer["point"]["digest"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("nowhere",), 2, "expected a run directory (with run.json), got none"),
        (("finished", "--goal", "speed"), 2, "--goal"),
        (("finished", "--min-seq", "4096"), 3, "--min-seq 4096: nothing that fits here has it"),
        (("finished", "--model", "xl"), 2, "--model: expected one of those that fit here (nano), got xl"),
        (("finished", "--vram", "5GB"), 2, "--vram: expected at most the 4GB of this run, got 5GB"),
        (("finished", "--max-power", "90"), 2, "--max-power: expected a run in which energy was measured"),
        (("finished", "--train-time", "soon"), 2, "--train-time: expected a length of time"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    runs: Path, arguments: tuple[str, ...], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recommend(*arguments) == code
    shown = capsys.readouterr()
    assert text in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


def test_a_later_version_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs / "finished" / "run.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 99'))
    assert recommend("finished") == 2
    assert "made by a later version of phase8-tune" in capsys.readouterr().err


def test_nothing_is_predicted_for_what_has_no_figures(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend("finished", "--goal", "balanced", "--what-if") == 0
    shown = capsys.readouterr().out
    assert "With 3GB, 1 GB less: the same configuration." in shown
    assert "With 5GB, 1 GB more: nothing is predicted, as no figures of AMD EPYC" in shown
    assert "Twice the sequence: no configuration of this model in this run fits it." in shown


def test_what_if_says_what_is_predicted(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a card whose figures are known; the prediction itself is made up."""

    def predict(definition: object, predictor: object, budgets: list[int], progress: object) -> object:
        assert budgets == sorted({*BUDGETS_BYTES, 4 * GIB, 5 * GIB})
        return {
            size: [make_point("nano", 64, 9 * size // GIB, tokens_per_s=size / GIB * 40_000)]
            for size in budgets
        }

    monkeypatch.setattr(what_if, "predict_under", predict)
    assert recommend("planned", "--goal", "throughput", "--what-if") == 0
    shown = capsys.readouterr().out
    # More memory is compared with the plan's own answer, and under its own budget that stands in the table.
    assert "With 5GB, 1 GB more: nano 45×64 reference bf16 train: 200,000 tokens/s" in shown
    assert "tokens/s +15." in shown
    assert shown.count("; predicted.") == 1
    head, row = (
        [cell.split() for line in shown.splitlines() if line.startswith(start) for cell in line.split("|")]
        for start in ("| Model", "| nano")
    )
    assert head[2:4] == [["4GB", "(this", "run)"], ["6GB"]]
    assert row[2:-1] == [
        ["8×64", "~173,000"],
        *([f"{9 * size // GIB}×64", f"{size // GIB * 40},000"] for size in BUDGETS_BYTES[1:]),
    ]


def test_the_options_are_the_goals_and_laws() -> None:
    assert list(Goal) == list(command.GOALS)
    [option] = [p for p in command.recommend.params if p.name == "law"]
    assert list(option.type.choices) == list(LAWS)  # type: ignore[attr-defined]


def test_the_pages_quote_the_sentences() -> None:
    page = Path(command.__file__).parents[2] / "docs" / "goals.md"
    if not page.exists():
        pytest.skip("phase8_tune is installed without its sources")
    text = " ".join(page.read_text(encoding="utf-8").split())
    for goal in Goal:
        assert f"| `{goal}` | {goal.sentence} |" in text
    for law in LAWS.values():
        figures = (law.e, law.a, law.b, law.alpha, law.beta)
        assert f"| {law.title} | {' | '.join(f'{figure:g}' for figure in figures)} |" in text


def test_of_cards_of_one_name_that_of_the_run_is_predicted(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cards are called RTX 3060: of a run on the one with 12 GB the figures are those with 12 GB."""
    asked: list[tuple[str, int | None]] = []

    def known(title: str, total_bytes: int | None = None) -> None:
        asked.append((title, total_bytes))

    monkeypatch.setattr(what_if, "known_profile", known)
    records = [json.loads(line) for line in (runs / "planned" / "records.jsonl").read_text().splitlines()]
    device = records[0]["measurement"]["device"]
    assert recommend("planned", "--goal", "balanced", "--what-if") == 0
    assert asked == [(device["name"], device["total_bytes"])]
