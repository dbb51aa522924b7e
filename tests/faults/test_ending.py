"""What asks a command to end: what was found is written and said, the code names it, no worker is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from phase8_tune.benchmarks.fault_processes import ignore_signals_alone
from phase8_tune.tuner.commands.entry import enter
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.interrupt import end_requests, interrupt_deferred

from ..tuner.processes import is_gone
from .commands import SEARCH, environment, faked, write_study


class Searching:
    """A search whose worker has measured the first row and hangs in the second."""

    def __init__(self, folder: Path, *, stderr: int = subprocess.PIPE) -> None:
        write_study(folder)
        os.mkfifo(folder / "here")
        os.mkfifo(folder / "go")
        self.driver = subprocess.Popen(
            faked(*SEARCH, worker=f"--waits={folder}"),
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
        )
        self.worker = int((folder / "here").read_text(encoding="utf-8"))
        self.run = folder / "runs" / "tiny-4GB-cpu"


@pytest.fixture
def searching(tmp_path: Path) -> Iterator[Searching]:
    search = Searching(tmp_path)
    yield search
    search.driver.kill()
    search.driver.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_and_says_what_was_found(searching: Searching, number: signal.Signals) -> None:
    searching.driver.send_signal(number)
    out, err = searching.driver.communicate(timeout=60)
    assert searching.driver.returncode == 128 + number
    assert "1 configurations: 1 measured" in out
    assert err.splitlines()[-1].endswith("run the same command to go on")
    assert is_gone(searching.worker)
    kept = {path.relative_to(searching.run).as_posix() for path in searching.run.rglob("*")}
    assert {"report.md", "trials.csv", "recommended/nano.yaml"} <= kept
    assert len((searching.run / "trials.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_a_second_signal_leaves_no_worker(searching: Searching) -> None:
    searching.driver.send_signal(signal.SIGTERM)
    searching.driver.send_signal(signal.SIGTERM)
    _, err = searching.driver.communicate(timeout=60)
    assert searching.driver.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)
    assert "Traceback" not in err
    assert is_gone(searching.worker)
    assert (searching.run / "records.jsonl").read_text(encoding="utf-8").count("\n") == 1


def ended(block: Callable[[list[str]], None]) -> tuple[list[str], int]:
    """How far a block came that signals ended, and the code that they make."""
    done: list[str] = []
    with end_requests() as request, pytest.raises(KeyboardInterrupt):
        block(done)
    return done, request.exit_code()


def test_a_signal_is_held_back_while_something_is_written() -> None:
    def write(done: list[str]) -> None:
        with interrupt_deferred():
            with interrupt_deferred():
                os.kill(os.getpid(), signal.SIGTERM)
                done.append("inner")
            done.append("outer")
        done.append("never")

    assert ended(write) == (["inner", "outer"], 143)


def test_a_second_signal_is_not_held_back() -> None:
    def write(done: list[str]) -> None:
        with interrupt_deferred(), interrupt_deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("first")
            os.kill(os.getpid(), signal.SIGHUP)
            done.append("second")

    assert ended(write) == (["first"], 143)


def test_a_signal_outlives_the_failure_of_what_held_it_back() -> None:
    """A database that is tried again must not make the search deaf."""

    def write(done: list[str]) -> None:
        with contextlib.suppress(OSError), interrupt_deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            raise OSError("database is locked")
        done.append("tried again")

    assert ended(write) == ([], 143)


@pytest.mark.parametrize(
    ("signals", "told"),
    [
        (1, "it: interrupted; records.jsonl cannot be written\n"),
        (2, "it: interrupted; what was done until then is kept\n"),  # it was the second that tore the write
    ],
)
def test_a_write_that_fails_after_a_signal_is_named(
    signals: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def write() -> None:
        try:
            for _ in range(signals):
                with contextlib.suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGTERM)
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise UserInputError("records.jsonl cannot be written") from None

    with pytest.raises(SystemExit) as end:
        enter("it", write, [])
    assert end.value.code == 143
    assert capsys.readouterr().err == told


@pytest.fixture
def ignored() -> Iterator[signal.Signals]:
    """A signal that is ignored from the start, as nohup has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield signal.SIGHUP
    signal.signal(signal.SIGHUP, before)


def test_a_signal_that_was_ignored_from_the_start_stays_so(ignored: signal.Signals) -> None:
    with end_requests() as request:
        signal.raise_signal(ignored)
    assert request.number is None


def test_what_the_suite_ignores_its_commands_do_not(ignored: signal.Signals) -> None:
    ignore_signals_alone()
    signal.raise_signal(ignored)
    assert ended(lambda done: signal.raise_signal(ignored)) == ([], 128 + ignored)
