"""The processes that trace: they end with the command, at once, and one that is ended is one line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from phase8_tune.tuner.machine.started import RecordingContext
from phase8_tune.tuner.predict import tracers as module
from phase8_tune.tuner.predict.lines import Key, Question, line_key
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.store import PredictionStore
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import DeviceError, UserInputError


def prepare() -> None:
    """Instead of what imports torch."""


def die(job: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(job: object) -> None:
    threading.Event().wait()


def note(path: Path) -> None:
    is_deaf = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    has_script = hasattr(sys.modules["__main__"], "OF_THE_SCRIPT")
    path.write_text(f"{is_deaf} {has_script}", encoding="utf-8")


def test_they_start_deaf_to_ctrl_c_and_without_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text("OF_THE_SCRIPT = True", encoding="utf-8")
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", str(tmp_path / "script.py"), raising=False)
    monkeypatch.setattr(main, "__spec__", None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    process = RecordingContext().Process(target=note, args=(tmp_path / "noted",))
    process.start()
    process.join()
    assert (tmp_path / "noted").read_text(encoding="utf-8") == "True False"
    assert sys.modules["__main__"] is main
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.fixture
def question() -> tuple[Key, Question]:
    candidate = Candidate(
        model="nano",
        n_seq=32,
        batch_size=1,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="none",
    )
    profile = gpu_profile("rtx-3060")
    return line_key(candidate, profile), Question(
        batch_size=1, cap_bytes=None, workspaces=profile.workspaces()
    )


def test_one_that_was_ended_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: tuple[Key, Question]
) -> None:
    monkeypatch.setattr(module, "prepare_process", prepare)
    monkeypatch.setattr(module, "answer", die)
    with PredictionStore(tmp_path, processes=1) as store, pytest.raises(DeviceError, match="from outside"):
        store.ask([question])
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "No such")])
def test_no_room_for_their_semaphores_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: tuple[Key, Question], error: OSError
) -> None:
    def refuse(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("_multiprocessing.SemLock", refuse)
    with PredictionStore(tmp_path, processes=1) as store, pytest.raises(UserInputError) as told:
        store.ask([question])
    assert str(error.strerror) in str(told.value)
    assert "/dev/shm" in str(told.value)


def test_an_interrupt_waits_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: tuple[Key, Question]
) -> None:
    monkeypatch.setattr(module, "prepare_process", prepare)
    monkeypatch.setattr(module, "answer", hang)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), PredictionStore(tmp_path, processes=1) as store:
        store.ask([question], interrupt)
    assert multiprocessing.active_children() == []
