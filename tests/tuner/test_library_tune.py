"""`tune` from Python: silent, resumed by the same call, and without signal handlers of its own."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from phase8_tune import load_run, recommend, tune
from phase8_tune.tuner.commands import measured_run
from phase8_tune.tuner.commands.request import RunRequest
from phase8_tune.tuner.commands.tune import tune as command
from phase8_tune.tuner.measuring import worker_measurer
from phase8_tune.tuner.report.run import Run
from phase8_tune.tuner.values.errors import NothingFitsError, UserInputError

from ..faults.commands import write_study

WORKER = (sys.executable, "-m", "phase8_tune.tests.fakes.worker")
OF_THE_COMMAND_ALONE = {"--verify", "--quiet", "--json", "--version"}
OTHERWISE_CALLED = {"--model": "models", "--workload": "workloads"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present one, with a study of two rows."""
    write_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker_measurer, "WORKER_COMMAND", (*WORKER, "--start=ok"))
    return tmp_path


def tuned(**changed: Any) -> Run:
    return tune("4GB", device="cpu", study="tiny.yaml", **changed)


def test_a_search_is_silent_and_its_run_is_there(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    run = tuned()
    assert (folder / run.path / "report.html").exists()
    assert [point.candidate.batch_size for point in run.points] == [1, 2]
    assert str(recommend(run)).startswith("balanced: nano 2×32 ")
    again = tuned()
    assert again.results.records == run.results.records
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before


def test_an_interrupt_leaves_a_run_that_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a notebook's: SIGINT, by Python's own handler, while the second row is measured."""
    monkeypatch.setattr(worker_measurer, "WORKER_COMMAND", (*WORKER, f"--waits={folder}"))
    os.mkfifo(folder / "here")
    os.mkfifo(folder / "go")
    handler = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        (folder / "here").read_text(encoding="utf-8")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted; 1 measured configurations are kept in runs/"):
        tuned()
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(load_run("runs/tiny-4GB-cpu").points) == 1
    run = tuned()
    assert len(run.points) == 2
    assert len(run.results.records) == 2


def test_no_handler_is_installed_outside_of_the_main_thread(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("signal.signal was called")

    monkeypatch.setattr(signal, "signal", refuse)
    found: list[Run | BaseException] = []

    def search() -> None:
        try:
            found.append(tuned(trials=1))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    [run] = found
    assert isinstance(run, Run), run
    assert len(run.points) == 1


class Asked(Exception):
    """Instead of a search: what was asked for."""


def asked(monkeypatch: pytest.MonkeyPatch, *given: Any, **options: Any) -> RunRequest:
    def execute(request: RunRequest, display: object) -> None:
        raise Asked(request)

    monkeypatch.setattr(measured_run, "execute", execute)
    with pytest.raises(Asked) as raised:
        tune(*given, **options)
    request = raised.value.args[0]
    assert isinstance(request, RunRequest)
    return request


def test_it_takes_what_the_command_takes() -> None:
    options = {option.opts[0] for option in command.params} - OF_THE_COMMAND_ALONE
    names = {OTHERWISE_CALLED.get(option, option[2:].replace("-", "_")) for option in options}
    assert names == set(inspect.signature(tune).parameters)


def test_what_is_asked_for_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked(
        monkeypatch,
        8 * 2**30,
        study=Path("a.yaml"),
        models="small",
        workloads=["phase8", "transformer"],
        vocab_size=2048,
        device="cpu",
        gpus="0,2",
        cluster="auto",
        gpu_model="H200",
        storage="postgresql://host/study",
        take_over=True,
        run="mine",
        runs_dir="there",
        trials=3,
        time="30m",
        timeout=90,
        reserve="1GB",
        seed=7,
        sampler="random",
        exhaustive=True,
    )
    assert request == RunRequest(
        vram_bytes=8 * 2**30,
        command=request.command,
        study="a.yaml",
        device="cpu",
        gpus="0,2",
        cluster="auto",
        gpu_model="H200",
        storage="postgresql://host/study",
        is_taken_over=True,
        models=("small",),
        workloads=("phase8", "transformer"),
        vocab_size=2048,
        run_name="mine",
        runs_dir=Path("there"),
        trials=3,
        time_limit_s=1800.0,
        timeout_s=90.0,
        reserve_bytes=2**30,
        seed=7,
        sampler="random",
        exhaustive=True,
    )
    planned = asked(monkeypatch, "8GB", gpu="rtx-3060", gpu_file="card.yaml")
    assert planned == RunRequest(
        vram_bytes=8 * 2**30, command=planned.command, gpu="rtx-3060", gpu_file=Path("card.yaml")
    )


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"vram": "much"}, "vram: expected a size such as 8GB"),
        ({"device": "gpu"}, "device: expected one of auto, cuda, cpu, got 'gpu'"),
        ({"sampler": "tpee"}, "sampler: expected one of .*; did you mean tpe"),
        ({"trials": 0}, "trials: expected a number above 0, got 0"),
        ({"time": "soon"}, "time: expected a length of time"),
        ({"timeout": 0}, "timeout: expected a length of time"),
        ({"study": "nowhere.yaml"}, ".*nowhere.yaml"),
        ({"run": "a/b"}, "--run: expected a plain folder name"),
        ({"gpu": "rtx 9999"}, "--gpu: expected a card"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_a_line(
    folder: Path, wrong: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserInputError, match=f"^{expected}") as raised:
        tune(**({"vram": "8GB"} | wrong))
    assert "\n" not in str(raised.value)


def test_where_nothing_fits_the_run_is_written(folder: Path) -> None:
    with pytest.raises(NothingFitsError, match="no configuration fits"):
        tune(vram=10, device="cpu", study="tiny.yaml", run="small")
    assert (folder / "runs" / "small" / "report.md").exists()
