"""`phase8-tune workload`: the file that it writes works, and what is wrong with one is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.values.workload_spec import note_spec
from phase8_tune.tuner.workloads.reading import describe
from phase8_tune.tuner.workloads.spec import from_json

OWN = Path(__file__).with_name("own_model.py")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path / "cache"))
    shutil.copy(OWN, tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    return exit_code(lambda: main(["workload", *arguments]))


def tried(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, dict[str, tuple[bool | None, str]]]:
    capsys.readouterr()
    code = run("check", *arguments, "--json")
    found = json.loads(capsys.readouterr().out)["tried"]
    return code, {one["what"]: (one["is_ok"], one["told"]) for one in found}


def test_what_is_written_works_as_it_is(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run("init", "mine.py") == 0
    assert "Next:  phase8-tune workload check mine.py:build" in capsys.readouterr().out
    text = (folder / "mine.py").read_text()
    assert len(text.splitlines()) < 60
    assert "phase8-tune --vram 8GB --workload mine.py:build" in text
    assert run("init", "mine.py") == 2
    assert "mine.py: expected" in capsys.readouterr().err
    code, found = tried(capsys, "mine.py:build", "--batch", "3", "--set", "features=8")
    assert code == 0
    assert [name for name, (is_ok, _) in found.items() if is_ok] == list(found)
    assert found["batch"][1] == "[3, 8], [3]"
    assert "MB of tensors at the peak" in found["prediction"][1]


@pytest.mark.parametrize(
    ("factory", "what", "told"),
    [
        ("raises", "error", "KeyError: 'no such layer' (own_model.py:"),
        ("vector_loss", "error", "to return a scalar tensor, got a tensor of shape (2,)"),
        ("keeps", "leaves nothing", "1 of its modules are still there once it is let go"),
        ("forgets", "optimizers", "2 tensors are learned and in no optimizer"),
        ("ragged", "batch", "two batches differ in shape"),
        ("wrong_size", "batch", "no tensor has the 2 samples that were asked for"),
        ("unseeded", "seed", "draw weights and batches from build.seed"),
        ("looks", "prediction", "own_model.py:"),
    ],
)
def test_what_is_wrong_is_said(
    capsys: pytest.CaptureFixture[str], factory: str, what: str, told: str
) -> None:
    name = f"own_model.py:{factory}"
    note_spec(from_json(describe(name)))  # as its own process reads it, which takes a second
    code, found = tried(capsys, name)
    assert told in found[what][1], found
    assert found[what][0] is not True
    assert code == (0 if what in ("seed", "prediction") else 1)


def test_a_process_that_ends_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "own_model.py:dies") == 1
    assert "it ended with code 7" in capsys.readouterr().err


def test_only_a_python_file_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "mine.yaml") == 2
    assert "expected the name of a Python file" in capsys.readouterr().err
