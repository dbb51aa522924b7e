"""A driver killed with SIGKILL in the middle of a study: nothing measured is lost or measured twice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest

from phase8_tune.tuner.records.database import open_sqlite
from phase8_tune.tuner.records.journal import read_records

DRIVER = Path(__file__).with_name("resume_driver.py")
CANDIDATES = 12


def drive(root: Path, kill_at: str, count: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DRIVER), str(root / "run"), str(root / "measured"), kill_at, str(count)]
    return subprocess.run(command, capture_output=True, text=True)


def check_complete(root: Path, lost: int) -> None:
    """The finished run holds every measurement but the `lost` ones that no driver lived to write down."""
    records = read_records(root / "run" / "records.jsonl")
    measured = (root / "measured").read_text().split()
    attempts = Counter((r.digest, r.attempt) for r in records)
    assert set(attempts.values()) == {1}
    assert len({r.digest for r in records}) == CANDIDATES
    journalled = Counter(r.digest for r in records)
    assert sum((Counter(measured) - journalled).values()) == lost
    assert not journalled - Counter(measured)
    trials = optuna.load_study(study_name="resume", storage=open_sqlite(root / "run" / "study.db")).trials
    assert all(t.state.is_finished() for t in trials)
    told = Counter(
        t.user_attrs["digest"]
        for t in trials
        if "outcome" in t.user_attrs and "duplicate_of_trial" not in t.user_attrs
    )
    assert told == Counter({r.digest: 1 for r in records})
    numbers = {t.number: t for t in trials}
    last = {r.digest: r for r in records}
    assert all(numbers[r.trial_number].user_attrs["digest"] == r.digest for r in last.values())


@pytest.mark.parametrize(
    ("kill_at", "count", "lost"),
    [
        ("measure", 1, 0),
        ("append", 5, 1),
        ("recorded", 1, 0),
        ("recorded", 9, 0),
        ("told", 6, 0),
        ("writing", 26, 0),
    ],
)
def test_a_killed_driver_loses_nothing_and_its_successor_repeats_nothing(
    tmp_path: Path, kill_at: str, count: int, lost: int
) -> None:
    killed = drive(tmp_path, kill_at, count)
    assert killed.returncode == -9, killed.stderr
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    kept = before[: before.rfind(b"\n") + 1]
    resumed = drive(tmp_path, "never", 0)
    assert (resumed.returncode, resumed.stdout[:9], resumed.stderr) == (0, "exhausted", "")
    assert (tmp_path / "run" / "records.jsonl").read_bytes().startswith(kept)
    check_complete(tmp_path, lost)


def test_a_driver_killed_again_and_again_comes_to_the_same_end(tmp_path: Path) -> None:
    kills = [("recorded", 3), ("measure", 2), ("append", 2), ("told", 2)]
    for kill_at, count in kills:
        assert drive(tmp_path, kill_at, count).returncode == -9
    assert drive(tmp_path, "never", 0).stdout.startswith("exhausted")
    check_complete(tmp_path, lost=1)
    measured = (tmp_path / "measured").read_text()
    assert drive(tmp_path, "never", 0).stdout == "exhausted 0\n"
    assert (tmp_path / "measured").read_text() == measured
