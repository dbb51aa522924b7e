"""A folder with a tiny model's settings and a text, and `phase8-train` run on them in this process."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.commands.train import main

from .training_runs import SETTINGS, Result, Run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(SETTINGS)
    (tmp_path / "text.txt").write_text("".join(random.Random(0).choices("abcdefgh ", k=4000)))
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object, data: str = "text.txt", settings: str = "tiny.yaml") -> Result:
        capsys.readouterr()
        command = [
            str(folder / settings),
            "--data",
            str(folder / data),
            "--device",
            "cpu",
            "--log-every",
            "1",
        ]
        code = exit_code(lambda: main([*command, *map(str, arguments)]))
        told = capsys.readouterr()
        return Result(code, told.out, told.err)

    return call
