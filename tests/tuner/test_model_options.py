"""`phase8-tune --model` and `--vocab-size`: another study than the one named, in a run of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.places import here
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.study.changes import with_models, with_vocab_size
from phase8_tune.tuner.study.definition import parse_definition

from .test_model_sizes import STUDY, study


class Device(FormulaMeasurer):
    """The formula in the worker's place."""

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(here, "WorkerMeasurer", lambda **given: Device(given["budget_bytes"]))
    Path("s.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def tune(*options: str) -> int:
    return exit_code(lambda: main(["--vram", "8GB", "--device", "cpu", "--study", "s.yaml", *options]))


def test_options_change_the_study_and_its_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model", "small", "--model", "640x10", "--vocab-size", "8192")
    assert tune(*options) == 0
    root = Path("runs/sizes-small-640x10-vocab8192-8GB-cpu")
    found = {(r.candidate["model"], r.candidate["vocab_size"]) for r in read_records(root / "records.jsonl")}
    assert found == {("small", 8192), ("640x10", 8192)}
    names = sorted(path.name for path in (root / "recommended").iterdir())
    of_models = [name for name in names if not name.startswith("goal-")]
    assert of_models == ["640x10-vocab8192.yaml", "small-vocab8192.yaml"]
    assert parse_definition((root / "study.yaml").read_text(), "s") == with_vocab_size(
        with_models(study(), ["small", "640x10"]), 8192
    )
    header, first, *_ = (root / "trials.csv").read_text().splitlines()
    assert dict(zip(header.split(","), first.split(","), strict=True))["vocab_size"] == "8192"
    before = (root / "records.jsonl").read_bytes()
    assert tune(*options) == 0  # goes on with the same run, which is finished
    assert (
        tune("--model", "640×10", "--model", "512x8", "--vocab-size", "8192") == 0
    )  # the same by other names
    assert (root / "records.jsonl").read_bytes() == before
    capsys.readouterr()
    main(["frontier", str(root), "--model", "640X10"])
    shown = capsys.readouterr().out
    assert "640x10" in shown
    assert "small" not in shown.split("\n\n")[1]


@pytest.mark.parametrize("options", [("--vocab-size", "8192"), ("--model", "small"), ("--model", "640x10")])
def test_a_run_of_other_models_is_refused(
    folder: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("--run", "mine") == 0
    before = json.loads(Path("runs/mine/run.json").read_text())
    capsys.readouterr()
    assert tune("--run", "mine", *options) == 2
    told = capsys.readouterr().err
    assert "runs/mine: expected a run of this study sizes, got one of another version of it" in " ".join(
        told.split()
    )
    assert json.loads(Path("runs/mine/run.json").read_text()) == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--model", "nanoo"), "--model: expected one of nano, small, base, medium, large, xl, xxl, giant"),
        (("--model", "640x0"), "--model: n_layers: expected a whole number from 1 to 99999, got 0"),
        (
            ("--vocab-size", "0"),
            "Invalid value for '--vocab-size': 0 is not in the range 1<=x<=16777216; see",
        ),
    ],
)
def test_a_wrong_option_is_one_line(
    folder: Path, options: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(*options) == 2
    assert expected in " ".join(capsys.readouterr().err.split())
    assert not Path("runs").exists()
