"""Run directories: whose they are, one driver at a time, and files that are whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phase8_tune.tuner.records.run_directory import RunDirectory, check_run_directory, read_run_info
from phase8_tune.tuner.study.definition import StudyDefinition, load_definition
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.measurement import DeviceInfo
from phase8_tune.tuner.values.timing import Timing

CPU = DeviceInfo(kind="cpu", name="a processor", total_bytes=2**34)
GPU = DeviceInfo(kind="cuda", name="a GPU", total_bytes=2**33)
STUDY = load_definition("cpu")


def open_run(
    root: Path,
    *,
    definition: StudyDefinition = STUDY,
    budget_bytes: int = 2**30,
    device: DeviceInfo = CPU,
) -> RunDirectory:
    return RunDirectory.open(
        root, definition=definition, definition_text=None, budget_bytes=budget_bytes, device=device
    )


def test_a_new_run_says_what_it_is(tmp_path: Path) -> None:
    root = tmp_path / "runs" / "größer {0}"
    with open_run(root) as directory:
        info = read_run_info(root)
        assert info == directory.info
    assert (info.study, info.definition_digest) == ("cpu", STUDY.digest())
    assert (info.budget_bytes, info.device_kind, info.device_name) == (2**30, "cpu", "a processor")
    assert load_definition(str(root / "study.yaml")) == STUDY
    with open_run(root) as again:
        assert again.info == info


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"definition": load_definition("seed_table")}, "this study seed_table, got one of study cpu"),
        (
            {"definition": STUDY.model_copy(update={"timing": Timing(warmup=9)})},
            "got one of another version of it",
        ),
        ({"budget_bytes": 2**31}, "the budget of 2147483648 bytes, got one with 1073741824"),
        ({"device": GPU}, r"expected a run on this device \(cuda: a GPU\), got one on cpu: a processor"),
    ],
)  # fmt: skip
def test_a_run_of_something_else_is_refused_with_what_to_do(
    tmp_path: Path, other: dict[str, object], expected: str
) -> None:
    open_run(tmp_path).close()
    with pytest.raises(UserInputError, match=expected) as caught:
        open_run(tmp_path, **other)  # type: ignore[arg-type]
    assert "another run directory" in str(caught.value)
    open_run(tmp_path).close()  # the refusal left no lock behind


def test_a_second_driver_is_told_who_has_the_run(tmp_path: Path) -> None:
    with open_run(tmp_path), pytest.raises(UserInputError, match=f"got process {os.getpid()} there"):
        open_run(tmp_path)
    open_run(tmp_path).close()


def test_the_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path\n"
        "from phase8_tune.tuner.records import run_directory\n"
        "lock = run_directory._lock(Path(sys.argv[1])); print('held', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lock")], capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("held\n", -9)
    open_run(tmp_path).close()


def test_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    cases = {
        file: "expected a folder for the run, got a file",
        file / "inside": "expected a folder that can be written, got: Not a directory",
        tmp_path / ("n" * 300): "got: File name too long",
    }
    for root, expected in cases.items():
        with pytest.raises(UserInputError, match=expected):
            open_run(root)


def test_records_without_their_run_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(UserInputError, match=r"got records without run\.json"):
        check_run_directory(tmp_path, STUDY, 2**30)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("format_version", "1", "format_version: expected what format 1 holds there"),
        ("budget_bytes", "8GB", "budget_bytes: expected what format 1 holds there"),
        ("surprise", 1, "surprise: expected what format 1 holds there"),
    ],
)
def test_a_run_json_of_another_kind_is_named(tmp_path: Path, key: str, value: object, expected: str) -> None:
    open_run(tmp_path).close()
    path = tmp_path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserInputError, match=expected):
        open_run(tmp_path)
    path.write_text("{")
    with pytest.raises(UserInputError, match=r"run\.json"):
        read_run_info(tmp_path)


def test_what_is_no_run_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="expected a run directory"):
        read_run_info(tmp_path / "none")


def test_a_disk_that_is_full_at_the_start_leaves_no_half_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserInputError, match="No space left on device; make room"):
        open_run(tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "run.json").exists()
    open_run(tmp_path).close()
