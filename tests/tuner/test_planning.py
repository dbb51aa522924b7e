"""phase8-tune without a GPU, from the command line to its files; the predictions are the real ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.commands import planned_run as planning
from phase8_tune.tuner.machine import devices
from phase8_tune.tuner.machine.devices import CudaProbe
from phase8_tune.tuner.places import here
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.training.settings import load_settings

STUDY = """
name: tiny
axes:
  model: [nano]
  n_seq: [64]
  batch_size: [1, 4, 64]
  kernel_version: [reference, fast]
  gradient_checkpointing: [false]
  mixed_precision: [bf16]
"""
ROOT = Path("runs/tiny-2GB-rtx-3080-laptop")
TITLE = "NVIDIA GeForce RTX 3080 Laptop GPU"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the study, predictions shared by the module, and no GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(cache))
    monkeypatch.setattr(
        devices, "probe_cuda", lambda gpus=(): CudaProbe(total_bytes=None, reason="none here")
    )
    Path("tiny.yaml").write_text(STUDY)


def tune(*arguments: str) -> int:
    return exit_code(lambda: main(["--vram", "2GB", "--study", "tiny.yaml", *arguments]))


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("predicted again")


def test_without_a_gpu_everything_is_written_and_marked_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune() == 0
    shown = capsys.readouterr()
    assert f"predicted for {TITLE} (nothing is measured), run {ROOT}" in shown.err
    assert f" MB, predicted for {TITLE}\n  why: nano is the smallest" in shown.out
    assert load_settings(ROOT / "recommended" / "goal-balanced.yaml").predicted is not None
    assert "5 of 6 configurations are predicted to fit with 3% to spare" in shown.out
    text = (ROOT / "recommended" / "nano.yaml").read_text()
    assert f"# predicted for {TITLE}, training, under a budget of 2GB: nothing was measured\n" in text
    assert "measured:" not in text
    report = (ROOT / "report.md").read_text()
    assert f"# Phase 8 plan: tiny predicted for {TITLE}" in report
    assert "Every figure in this report is predicted" in report
    assert "How it was measured" not in report
    rows = list(csv.DictReader((ROOT / "trials.csv").open()))
    assert {row["device_kind"] for row in rows} == {"predicted"}
    assert {row["tokens_per_s_mean"] for row in rows} == {""}
    assert all(row["predicted_tokens_per_s"] and row["peak_source"].startswith("predicted") for row in rows)
    assert json.loads((ROOT / "run.json").read_text())["device_kind"] == "predicted"


def test_a_recommendation_leads_back_to_its_record() -> None:
    assert tune() == 0
    settings = load_settings(ROOT / "recommended" / "nano.yaml")
    predicted = settings.predicted
    assert settings.measured is None
    assert predicted is not None
    (record,) = [r for r in read_records(ROOT / "records.jsonl") if r.digest == predicted.digest]
    assert record.measurement.peak_bytes == predicted.peak_bytes == sum(predicted.ledger.values())
    assert predicted.tokens_per_s_low < predicted.tokens_per_s < predicted.tokens_per_s_high
    assert predicted.fits
    assert predicted.peak_bytes_high + predicted.spare_bytes == predicted.budget_bytes
    assert predicted.peak_bytes < predicted.peak_bytes_high


def test_the_study_is_an_ordinary_one() -> None:
    assert tune() == 0
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{ROOT / 'study.db'}")
    records = {r.digest: r for r in read_records(ROOT / "records.jsonl")}
    assert {t.user_attrs["digest"]: t.number for t in study.trials} == {
        r.digest: r.trial_number for r in records.values()
    }
    assert {t.user_attrs["basis"] for t in study.trials} == {"predicted"}
    assert {t.state.name for t in study.trials} == {"COMPLETE"}
    assert study.best_trials


def test_the_same_command_again_predicts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune() == 0
    first = capsys.readouterr().out
    files = {p: p.read_bytes() for p in ROOT.rglob("*") if p.suffix in (".jsonl", ".md", ".yaml", ".csv")}
    monkeypatch.setattr(planning, "decide", refuse)
    assert tune() == 0
    assert capsys.readouterr().out == first
    assert {p: p.read_bytes() for p in files} == files
    storage = f"sqlite:///{ROOT / 'study.db'}"
    trials = len(optuna.load_study(study_name=None, storage=storage).trials)
    (ROOT / "study.db").unlink()
    assert tune() == 0
    assert len(optuna.load_study(study_name=None, storage=storage).trials) == trials > 0
    main(["frontier", ROOT.name])
    assert f"Frontier predicted for {TITLE}" in capsys.readouterr().out


def test_a_named_card_is_planned_for_even_where_a_gpu_is_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(here, "resolve_device", refuse)
    assert tune("--gpu", "rtx-4090") == 0
    assert "predicted for NVIDIA GeForce RTX 4090" in capsys.readouterr().out
    assert Path("runs/tiny-2GB-rtx-4090/report.md").exists()


def test_nothing_that_fits_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("--vram", "490MB") == 3
    assert "no configuration is predicted to fit 490MB" in capsys.readouterr().err.splitlines()[-1]
    assert "nothing fits at sequence 64" in Path("runs/tiny-490MB-rtx-3080-laptop/report.md").read_text()
    assert tune("--vram", "100MB") == 3  # less than the context
    assert "--vram: expected room for a model" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--trials", "5"], "--trials: expected where something is measured"),
        (["--time", "5m"], "--time: expected where something is measured"),
        (["--timeout", "5m"], "--timeout: expected where something is measured"),
        (["--seed", "1"], "--seed: expected where something is measured"),
        (["--gpu", "h200", "--gpus", "all"], "--gpus: expected where something is measured"),
        (["--gpu", "rtx-9999"], "--gpu: expected a card that `phase8-tune gpus` lists"),
        (["--gpu", "h200", "--device", "cpu"], "--gpu: plans for a card, got --device cpu too"),
    ],
)
def test_what_a_plan_cannot_take_is_refused(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert not Path("runs").exists()


def test_more_than_the_card_has_is_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("--vram", "24GB") == 0
    assert f"24GB is more than the {TITLE} has; its 8,192.00 MB" in capsys.readouterr().err


def test_a_plan_with_other_figures_is_not_taken_for_this_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune() == 0
    kept = (ROOT / "records.jsonl").read_bytes()
    assert tune("--reserve", "100MB") == 2
    assert "remove it to plan again" in capsys.readouterr().err.splitlines()[-1]
    assert (ROOT / "records.jsonl").read_bytes() == kept


def test_a_plan_and_a_measured_run_do_not_share_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("--run", "mine") == 0
    capsys.readouterr()
    assert tune("--run", "mine", "--gpu", "h200") == 2
    assert "expected a run on this device (predicted: NVIDIA H200)" in capsys.readouterr().err


def test_an_interrupt_is_one_line_and_the_same_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(planning, "decide", interrupt)
        assert tune() == 130
    assert "run the same command to go on" in capsys.readouterr().err.splitlines()[-1]
    assert not (ROOT / "plan.json").exists()
    assert tune() == 0
