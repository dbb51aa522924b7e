"""phase8-tune from the command line to its files: with a formula for a device, once with a real worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.cli import main
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.places import here
from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.training.recommended import read_reasons
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.outcome import Outcome

TINY = """
name: tiny
axes:
  model: [nano]
  n_seq: [16, 32]
  batch_size: [1, 2, 4]
  kernel_version: [reference]
  gradient_checkpointing: [false]
  mixed_precision: [none]
search: {startup_trials: 2, seed: 0}
timing: {warmup: 0, iterations: 2, timeout_s: 60}
"""


class Device(FormulaMeasurer):
    """The formula in the worker's place; `settings` are what the run gave the worker."""

    settings: dict[str, Any]

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """Every measurer that a command made, in order."""
    return use_devices(monkeypatch, lambda device: None)


def use_devices(monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Device], None]) -> list[Device]:
    made: list[Device] = []

    def make(**settings: Any) -> Device:
        device = Device(budget_bytes=settings["budget_bytes"])
        device.settings = settings
        prepare(device)
        made.append(device)
        return device

    monkeypatch.setattr(here, "WorkerMeasurer", make)
    return made


def tune(*arguments: str) -> int:
    return exit_code(lambda: main(["--vram", "1GB", "--device", "cpu", "--study", "tiny.yaml", *arguments]))


def test_a_run_leaves_every_file(
    study: Path, devices: list[Device], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune() == 0
    root = Path("runs/tiny-1GB-cpu")
    names = {p.name for p in root.iterdir()}
    assert {"study.db", "records.jsonl", "trials.csv", "report.md", "recommended"} <= names
    assert {"report.html", "frontier.svg", "frontier.png"} <= names
    settings = load_settings(root / "recommended" / "nano.yaml")
    assert settings.measured is not None
    assert settings.measured.device_kind == "cpu"
    shown = capsys.readouterr()
    assert re.search(r"^balanced: nano .* tokens/s, .* MB, on formula \(device: cpu\)$", shown.out, re.M)
    assert f"phase8-train {root}/recommended/goal-balanced.yaml --data FILE" in shown.out
    assert load_settings(root / "recommended" / "goal-balanced.yaml").measured is not None
    assert read_reasons((root / "recommended" / "nano.yaml").read_text())[0].startswith("why: the most")
    assert "[6/6] nano" in shown.err
    assert devices[0].is_closed
    assert len((root / "trials.csv").read_text().splitlines()) == 7


def test_the_same_command_again_measures_nothing(
    study: Path, devices: list[Device], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune() == 0
    first = capsys.readouterr().out
    report = Path("runs/tiny-1GB-cpu/report.md").read_text()
    assert tune() == 0
    assert capsys.readouterr().out == first
    assert Path("runs/tiny-1GB-cpu/report.md").read_text() == report
    assert [len(d.measured) for d in devices] == [6, 0]


def test_options_reach_the_search(study: Path, devices: list[Device]) -> None:
    options = (
        "--trials",
        "2",
        "--timeout",
        "7",
        "--reserve",
        "64MB",
        "--run",
        "mine",
        "--runs-dir",
        "elsewhere",
    )
    assert tune(*options) == 0
    (device,) = devices
    assert len(device.measured) == 2
    assert device.settings["timing"].timeout_s == 7
    assert device.settings["reserve_bytes"] == 64 * 2**20
    assert device.settings["log_dir"] == Path("elsewhere/mine")
    assert device.settings["earlier"] == ()
    assert tune(*options, "--trials", "4") == 0  # goes on, repeating nothing
    assert [record.digest for record in devices[1].settings["earlier"]] == device.measured
    assert len(set(devices[0].measured + devices[1].measured)) == 4


@pytest.mark.parametrize("reserve", ["0", "0GB", "auto"])
def test_a_reserve_of_nothing_is_none_and_so_is_auto_on_a_cpu(
    study: Path, devices: list[Device], reserve: str
) -> None:
    assert tune("--reserve", reserve, "--trials", "1") == 0
    assert devices[0].settings["reserve_bytes"] == 0


def test_more_than_the_device_has_is_its_size_with_a_warning(
    study: Path, devices: list[Device], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("--vram", "3PB") == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "--vram 3PB is more than this computer's memory holds" in warning
    assert devices[0].settings["budget_bytes"] < 2**50


def test_frontier_again_without_a_device(
    study: Path, devices: list[Device], capsys: pytest.CaptureFixture[str]
) -> None:
    tune()
    searched = capsys.readouterr().out
    main(["frontier", "tiny-1GB-cpu"])
    front = capsys.readouterr().out
    assert front.startswith("Frontier on formula (device: cpu), budget 1GB")
    assert (
        f"All {front.count(chr(10) + 'nano ')} configurations of the frontier: phase8-tune frontier"
        in searched
    )
    main(["frontier", "tiny-1GB-cpu", "--per-cell"])
    assert (shown := capsys.readouterr().out).startswith("Frontier of each model and sequence on")
    main(["frontier", "runs/tiny-1GB-cpu", "--seq", "16", "--csv"])
    header, *rows = capsys.readouterr().out.splitlines()
    column = header.split(",").index("n_seq")
    assert {row.split(",")[column] for row in rows} == {"16"}
    assert {n_seq for n_seq in ("16", "32") if f"×{n_seq} " in shown} == {"16", "32"}


@pytest.mark.parametrize(
    ("outcome", "exit_code", "message"),
    [
        (Outcome.OOM, 3, "no configuration fits 1GB (6 oom); raise --vram"),
        (
            Outcome.COMPILE_ERROR,
            4,
            "every configuration failed (6 compile_error); see the worker's log in runs/",
        ),
    ],
)
def test_a_run_without_a_success_says_why(
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
    exit_code: int,
    message: str,
) -> None:
    # One batch only: what does not fit would rule out larger ones without a launch.
    text = TINY.replace("[1, 2, 4]", "[1]").replace("[16, 32]", "[8, 16, 32, 64, 128, 256]")
    study.write_text(text)
    candidates = list(SearchSpace(parse_definition(text, "tiny.yaml")).enumerate())

    def prepare(device: Device) -> None:
        device.outcomes = {c.digest(): [outcome] for c in candidates}

    use_devices(monkeypatch, prepare)
    assert tune() == exit_code
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"phase8-tune: {message}")
    assert f"`{outcome}`: 6; {outcome.advice}" in Path("runs/tiny-1GB-cpu/report.md").read_text()


def test_an_interrupt_keeps_what_was_measured_and_the_same_command_goes_on(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(device: Device) -> None:
        def interrupt(candidate: Candidate) -> None:
            if len(device.measured) == 2:
                raise KeyboardInterrupt

        device.before = interrupt

    made = use_devices(monkeypatch, prepare)
    assert tune() == 130
    assert "2 measured configurations are kept in runs/tiny-1GB-cpu" in capsys.readouterr().err
    assert len(Path("runs/tiny-1GB-cpu/trials.csv").read_text().splitlines()) == 3
    assert tune() == 130
    assert tune() == 0
    measured = [digest for device in made for digest in device.measured]
    assert len(measured) == len(set(measured)) == 6


def test_an_unexpected_error_keeps_its_traceback(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(device: Device) -> None:
        def fail(candidate: Candidate) -> None:
            raise ZeroDivisionError("a bug")

        device.before = fail

    use_devices(monkeypatch, prepare)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        tune()


def test_a_real_worker_is_interrupted_and_resumed(study: Path) -> None:
    """Ctrl-C after the first trial, as a terminal sends it: to the driver, then the same command again."""
    command = [sys.executable, "-m", "phase8_tune.tuner.cli", "--vram", "4GB", "--device", "cpu"]
    command += ["--study", "tiny.yaml"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as driver:
        assert driver.stderr is not None
        next(line for line in driver.stderr if line.startswith("[1/"))
        driver.send_signal(signal.SIGINT)
        rest = driver.stderr.read()
    assert driver.returncode == 130
    assert "Traceback" not in rest
    assert "run the same command to go on" in rest.splitlines()[-1]
    journal = Path("runs/tiny-4GB-cpu/records.jsonl")
    kept = journal.read_text()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "device: cpu" in done.stdout
    assert journal.read_text().startswith(kept)
    digests = [json.loads(line)["digest"] for line in journal.read_text().splitlines()]
    assert len(digests) == len(set(digests)) == 6
    assert load_settings(Path("runs/tiny-4GB-cpu/recommended/nano.yaml")).measured is not None


@pytest.mark.parametrize(
    ("text", "options", "part"),
    [
        (TINY.replace("[16, 32]", "[64]"), [], "got one of another version of it"),
        (TINY.replace("name: tiny", "name: other"), [], "got one of study tiny"),
        (TINY, ["--vram", "2GB"], "expected a run with the budget of 2147483648 bytes"),
    ],
    ids=["another axis", "another name", "another budget"],
)
def test_a_run_of_something_else_is_refused_and_kept(
    study: Path,
    devices: list[Device],
    capsys: pytest.CaptureFixture[str],
    text: str,
    options: list[str],
    part: str,
) -> None:
    assert tune("--run", "mine") == 0
    kept = {p: p.read_bytes() for p in Path("runs/mine").iterdir() if p.is_file()}
    capsys.readouterr()
    study.write_text(text)
    assert tune("--run", "mine", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
    assert len(devices) == 1  # refused before a worker starts
    assert {p: p.read_bytes() for p in Path("runs/mine").iterdir() if p.is_file()} == kept
