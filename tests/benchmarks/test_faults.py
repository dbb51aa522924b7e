"""Every fault a few times, none of which leaves a trace; and the account, which must see each trace."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.benchmarks import faults
from phase8_tune.benchmarks.fault_cases import FAKE, Bench, fake
from phase8_tune.benchmarks.fault_harness import (
    FAKES,
    Tally,
    account,
    notes,
    row_of,
    run_case,
    study_of,
)
from phase8_tune.benchmarks.fault_processes import MARK
from phase8_tune.benchmarks.faults import Counts, cpu_cases, gpu_cases
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.outcome import Outcome

FEW = Counts(
    nvml_trials=2,
    worker_kills=8,
    real_worker_kills=2,
    driver_kills=3,
    interrupts=1,
    disks=2,
    out_of_memory=5,
    hangs=1,
    visits=1,
    messages=2,
    signals=1,
    signalled_rows=12,
    small_disks=1,
    lost_outputs=1,
    trainings=1,
    training_steps=6,
)
CASES = tuple(cpu_cases(Bench(folder=Path(), device="cpu", seed=0), FEW))


@pytest.fixture(autouse=True)
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, uuid.uuid4().hex)  # no other run of this suite bears it
    monkeypatch.setenv("PYTHONPATH", str(FAKES), prepend=os.pathsep)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(folder=tmp_path, device="cpu", seed=time.time_ns() % 2**32)


@pytest.mark.parametrize("name", CASES)
def test_a_fault_leaves_no_trace(bench: Bench, name: str) -> None:
    for tally in cpu_cases(bench, FEW)[name]():
        assert tally.is_clean, (bench.seed, tally)
        assert tally.injected >= 1
        assert tally.records >= 1
        assert tally.outcomes


def test_the_faults_that_need_a_gpu_are_among_those_of_the_fakes(bench: Bench) -> None:
    assert set(gpu_cases(bench, FEW)) <= set(CASES)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    run_case(
        "sound", tmp_path / "case", [["ok"], ["exit:0", "ok"]], fake(), worker=FAKE, budget_bytes=1 << 30
    )
    return tmp_path / "case"


def accounted(study: Path, measured: list[str] | None = None, rows: int = 2, **more: Any) -> Tally:
    return account(
        "case",
        study / "run",
        notes(study / "noted") if measured is None else measured,
        rows=rows,
        worker=FAKE,
        injected=1,
        started_s=time.monotonic(),
        **more,
    )


def test_a_sound_study_has_a_clean_account(study: Path) -> None:
    found = accounted(study)
    assert found.is_clean
    assert (found.records, found.outcomes) == (3, {"ok": 2, "error": 1})


def test_a_lost_record_is_seen(study: Path) -> None:
    journal = study / "run" / "records.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    found = accounted(study)
    assert (found.lost, found.is_clean) == (1, False)
    killed = accounted(study, lost=0)  # after a driver's end: what it had measured and not written
    assert (killed.lost, killed.in_flight) == (0, 1)


def test_a_double_record_is_seen(study: Path) -> None:
    journal = study / "run" / "records.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([*lines, lines[0]]))
    assert accounted(study, [*notes(study / "noted"), notes(study / "noted")[0]]).doubled == 1


def test_a_record_of_nothing_is_seen(study: Path) -> None:
    assert accounted(study, notes(study / "noted")[1:]).doubled == 1


def test_a_row_that_was_not_measured_is_seen(study: Path) -> None:
    assert accounted(study, rows=3).unfinished == 1


def test_a_process_left_behind_is_seen_and_ended(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phase8_tune.benchmarks.fault_processes._GRACE_S", 0.1)
    waiting = [sys.executable, "-c", "print(flush=True); import threading; threading.Event().wait()"]
    with subprocess.Popen(waiting, stdout=subprocess.PIPE) as left:
        assert left.stdout is not None
        left.stdout.readline()
        assert accounted(study).left_behind == 1
        assert left.wait(60) == -9
    assert accounted(study).left_behind == 0


def test_an_outcome_that_is_not_the_right_one_is_seen(tmp_path: Path) -> None:
    found = run_case(
        "case",
        tmp_path / "case",
        [["exit:0", "ok"]],
        fake(),
        worker=FAKE,
        budget_bytes=1 << 30,
        expected={"exit:0": Outcome.KILLED},
    )
    assert found.unexpected == ("exit:0: expected killed, got error",)
    assert not found.is_clean


def test_rows_are_found_again_by_their_candidates() -> None:
    assert [row_of(c) for c in SearchSpace(study_of(5)).enumerate()] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (1, 1)])
def test_results_are_written_and_the_exit_code_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lost: int, code: int
) -> None:
    tally = Tally(
        case="a case",
        worker=FAKE,
        injected=3,
        outcomes={"ok": 4},
        records=4,
        lost=lost,
        doubled=0,
        left_behind=0,
        unfinished=0,
        unexpected=("this: expected that",) if lost else (),
    )
    monkeypatch.setattr(faults, "cpu_cases", lambda bench, counts: {"a": lambda: iter([tally])})
    monkeypatch.setattr(sys, "argv", ["faults", "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        faults.main()
    assert end.value.code == code
    assert "a case" in capsys.readouterr().out
    (case,) = json.loads((tmp_path / "out" / "results.json").read_text())["cases"]
    assert (case["injected"], case["lost"]) == (3, lost)
    report = (tmp_path / "out" / "report.md").read_text()
    assert report.startswith(f"# 3 faults injected: {lost} records lost, 0 double, 0 processes left behind\n")
    assert ("- a case: this: expected that" in report) == bool(lost)
    assert re.search(r"^\|[-:| ]+\|$", report, re.MULTILINE)
    environment = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert all(environment[key] for key in ("gpu", "driver", "cuda", "torch", "python", "command"))


def test_a_case_that_is_run_again_is_added_to_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tally(case: str, outcome: str) -> Tally:
        return Tally(
            case=case,
            worker=FAKE,
            injected=3,
            outcomes={outcome: 2},
            records=2,
            lost=0,
            doubled=0,
            left_behind=0,
            unfinished=0,
            unexpected=("something",) if outcome == "error" else (),
        )

    def run(*tallies: Tally) -> list[dict[str, Any]]:
        monkeypatch.setattr(faults, "cpu_cases", lambda bench, counts: {"a": lambda: iter(tallies)})
        monkeypatch.setattr(sys, "argv", ["faults", "--output", str(tmp_path / "out")])
        with pytest.raises(SystemExit):
            faults.main()
        found: list[dict[str, Any]] = json.loads((tmp_path / "out" / "results.json").read_text())["cases"]
        return found

    run(tally("a", "ok"), tally("b", "ok"))
    first, second = run(tally("a", "error"))
    assert (first["case"], first["injected"], first["outcomes"]) == ("a", 6, {"ok": 2, "error": 2})
    assert first["unexpected"] == ["something"]
    assert (second["case"], second["injected"]) == ("b", 3)
    changed = json.loads((tmp_path / "out" / "environment.json").read_text()) | {"gpu": "another"}
    (tmp_path / "out" / "environment.json").write_text(json.dumps(changed))
    assert [case["case"] for case in run(tally("c", "ok"))] == ["c"]


def test_a_case_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["faults", "--only", "nothing"])
    with pytest.raises(SystemExit) as end:
        faults.main()
    assert end.value.code == 2
    assert "expected some of nvml, messages" in capsys.readouterr().err
