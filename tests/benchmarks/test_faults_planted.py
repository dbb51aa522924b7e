"""What a fault would cost a training or a search, planted: the account sees each."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

import pytest

from phase8_tune.benchmarks.fault_cases import FAKE, Bench, fake
from phase8_tune.benchmarks.fault_disks import fill, make_room, small_disk
from phase8_tune.benchmarks.fault_endings import unfinished_files
from phase8_tune.benchmarks.fault_forks import Stream, fork
from phase8_tune.benchmarks.fault_harness import FAKES, run_case
from phase8_tune.benchmarks.fault_processes import MARK
from phase8_tune.benchmarks.fault_training import Course, compare, saved_step, start, undisturbed
from phase8_tune.benchmarks.fault_trainings import end_training_case
from phase8_tune.tuner.training import loop
from phase8_tune.tuner.values.errors import UserInputError

STEPS = 6


@pytest.fixture(autouse=True)
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, uuid.uuid4().hex)
    monkeypatch.setenv("PYTHONPATH", str(FAKES), prepend=os.pathsep)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Course]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, undisturbed(folder, STEPS)


def test_what_is_planted_in_a_training_is_seen(trained: tuple[Path, Course]) -> None:
    folder, course = trained
    assert set(course.losses) == set(range(1, STEPS + 1))
    assert len(course.files) == 3
    assert compare(folder, course) == (0, 0, [])

    metrics = folder / "tiny.metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    metrics.write_text("".join(lines[1:]), encoding="utf-8")
    assert compare(folder, course) == (1, 0, [])
    metrics.write_text("".join([*lines, lines[0]]), encoding="utf-8")
    assert compare(folder, course) == (0, 1, [])
    metrics.write_text("".join(lines).replace("5.", "6.", 1), encoding="utf-8")
    assert compare(folder, course)[0] == 1
    metrics.write_text("".join(lines), encoding="utf-8")

    (folder / ".tiny.svg.abc.tmp").touch()
    assert compare(folder, course) == (0, 0, [".tiny.svg.abc.tmp: left behind"])

    weights = folder / "tiny.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    torn = ["tiny.safetensors: other bits", ".tiny.svg.abc.tmp: left behind"]
    assert compare(folder, course) == (0, 0, torn)
    assert start(folder, STEPS).ended().code == 0  # all steps are done, and what a torn end left is mended
    assert compare(folder, course) == (0, 0, [])

    checkpoint = folder / "tiny.resume.safetensors"
    assert saved_step(folder) == STEPS
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserInputError):
        saved_step(folder)


def test_a_training_that_saves_nothing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "write_checkpoint", lambda path, checkpoint: None)
    found = end_training_case(Bench(folder=tmp_path, device="cpu", seed=0), 1, STEPS, signal.SIGTERM)
    assert found.unfinished >= STEPS
    assert not found.is_clean


def test_files_that_a_driver_did_not_write_are_seen(tmp_path: Path) -> None:
    run_case("sound", tmp_path / "case", [["ok"]], fake(), worker=FAKE, budget_bytes=1 << 30)
    (tmp_path / "case" / "run" / ".report.md.abc.tmp").touch()
    assert unfinished_files(tmp_path / "case") == [
        "run/.report.md.abc.tmp: left behind",
        "trials.csv: 0 rows of 1 records",
        "report.md: missing",
        "recommended: missing",
    ]


@pytest.mark.parametrize("kind", Stream)
def test_a_child_ends_as_a_process_would(tmp_path: Path, kind: Stream) -> None:
    def say(arguments: object) -> None:
        print("said", flush=True)
        raise SystemExit(3)

    child = fork(say, [], tmp_path, stdout=kind)
    child.abandon()
    ended = child.ended()
    if kind is Stream.FULL:
        assert ended.code == 1
        assert "No space left" in ended.errors
    else:
        assert ended.code == 3 or kind is Stream.ABANDONED
    assert ended.output == ("said\n" if kind is Stream.READ else "")


def test_a_small_disk_is_full_but_for_the_room_left(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as is_there:
        if not is_there:
            pytest.skip("nothing may be mounted here")
        fill(tmp_path / "disk", 8192)
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "disk" / "large").write_bytes(bytes(16384))
        make_room(tmp_path / "disk")
        (tmp_path / "disk" / "large").write_bytes(bytes(16384))
    assert list((tmp_path / "disk").iterdir()) == []
