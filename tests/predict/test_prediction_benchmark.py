"""The prediction benchmark without a GPU: what it would run is replaced."""

from __future__ import annotations

import gc
import json
import os
import sys
from types import SimpleNamespace

import pytest
import torch

from phase8_tune.benchmarks import prediction, prediction_report, quiet_core
from phase8_tune.benchmarks.fresh_processes import in_fresh_processes
from phase8_tune.benchmarks.prediction_cases import MeasuredPeaks, draw
from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.rate.throughput import StepEstimate

GIB = 1 << 30


@pytest.fixture
def replaced(monkeypatch, tmp_path):
    """A card on which everything reserves 5 GiB, allocates 4.5, and runs under caps of 6 GiB and more."""
    answer = SimpleNamespace(
        reserved_bytes=5 * GIB, allocated_bytes=int(4.5 * GIB), peak_op="mul", peak_phase="forward", fits=True
    )
    ran = []

    def run(function, tasks, **_):
        ran.extend(tasks)
        return [
            None if task.cap_bytes == 5 * GIB
            else MeasuredPeaks(int(4.5 * GIB), 5 * GIB + 1, 6 * GIB)
            for task in tasks
        ]  # fmt: skip

    step = StepEstimate(traffic_s=0.1, arithmetic_s=0.0, floor_s=0.0, host_s=0.0)
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(prediction, "present_profile", lambda: gpu_profile("h200"))
    monkeypatch.setattr(prediction, "_ask", lambda store, profile, cases, *_: [answer] * len(cases))
    monkeypatch.setattr(prediction, "CAPS_GIB", (4, 5, 6))
    monkeypatch.setattr(prediction, "in_fresh_processes", run)
    monkeypatch.setattr(prediction, "clean", lambda: None)
    monkeypatch.setattr(prediction, "step_blocks", lambda case: [[0.3, 0.3], [0.2, 0.1, 0.2]])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (80 * GIB, 80 * GIB))
    monkeypatch.setattr(Predictor, "step", lambda *_: step)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(sys, "argv", ["prediction", "--count", "12", "--output", str(tmp_path / "out")])
    return SimpleNamespace(answer=answer, ran=ran, results=tmp_path / "out" / "results.json")


def test_memory_and_throughput(replaced, capsys):
    prediction.main()
    results = json.loads(replaced.results.read_text())
    summary = results["summary"]
    assert summary["configurations"] == 12
    assert summary["reserved_within_2_percent"] == 1.0
    assert summary["throughput_median_error"] == pytest.approx(0.1 / 0.1)  # 0.2 s measured, 0.1 predicted
    assert summary["throughput_median_error_after_ten"] < 0.02
    assert len(results["processes"]) == prediction.PROCESS_RUNS
    # 4 GiB are less than what is allocated, 6 GiB are enough, 5 GiB had to be tried
    assert [task.cap_bytes for task in replaced.ran].count(5 * GIB) == 12
    assert (summary["decisions"], summary["launched_out_of_memory"]) == (36, 24)
    assert "| configuration" in capsys.readouterr().out


@pytest.mark.parametrize(("only", "other"), [("memory", "throughput"), ("throughput", "reserved")])
def test_one_part_alone(replaced, monkeypatch, only, other):
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--only", only])
    prediction.main()
    summary = json.loads(replaced.results.read_text())["summary"]
    assert not [name for name in summary if name.startswith(other)]
    assert (replaced.ran == []) == (only == "throughput")


def test_out_of_memory_without_a_cap_is_one_line_and_exit_2(replaced, monkeypatch, capsys):
    monkeypatch.setattr(prediction, "in_fresh_processes", lambda function, tasks, **_: [None] * len(tasks))
    with pytest.raises(SystemExit) as end:
        prediction.main()
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "expected it to fit without a cap, got out of memory" in lines[0]


def test_nothing_small_enough_is_one_line_and_exit_2(replaced, capsys):
    replaced.answer.reserved_bytes = None
    with pytest.raises(SystemExit) as end:
        prediction.main()
    assert end.value.code == 2
    assert "got none of the 24 drawn" in capsys.readouterr().err


ROW = {
    "candidate": {"kernel_version": "v2", "batch_size": 2, "n_seq": 256},
    "limited_by": "memory traffic",
    "predicted_step_s": 0.1,
    "measured_step_s": 0.2,
    "measured_reserved_bytes": 1,
    "allocated_error": 0.001,
    "reserved_error": -0.03,
}


def test_one_configuration_has_a_summary():
    summary = prediction_report.summary_of([ROW], [], [])
    assert summary["throughput_spearman"] is None
    assert summary["allocated_within_1_percent"] == 1.0
    assert summary["reserved_within_2_percent"] == 0.0
    assert summary["reserved_abs_error"]["max"] == 0.03


def test_decisions_count_as_the_search_makes_them():
    made = [(True, True, True), (True, False, True), (False, False, True), (True, False, False)]
    caps = [
        {"fits": fits, "predicted_fits": predicted, "is_launched": launched}
        for fits, predicted, launched in made
    ]
    summary = prediction_report.summary_of([ROW], caps, [])
    counts = (
        "decisions",
        "launched",
        "launched_out_of_memory",
        "fitting_but_skipped",
        "wrong_without_margin",
    )
    assert [summary[name] for name in counts] == [4, 3, 1, 1, 2]


def test_every_item_has_a_process_of_its_own():
    results = in_fresh_processes(
        _process_and_double, [1, 2, 3], needs_bytes=[5, 20, 3], room_bytes=10, at_once=3
    )
    assert [double for _, double in results] == [2, 4, 6]
    assert len({process for process, _ in results} | {os.getpid()}) == 4


def _process_and_double(number: int) -> tuple[int, int]:
    return os.getpid(), 2 * number


def test_steps_are_timed_on_one_core_and_all_are_given_back():
    cores = os.sched_getaffinity(0)
    seen = []

    def step() -> float:
        seen.append(os.sched_getaffinity(0))
        return 0.3

    blocks = quiet_core.timed_blocks(step)
    assert [len(block) for block in blocks] == [2] * quiet_core.BLOCKS
    assert all(len(core) == 1 for core in seen)
    assert os.sched_getaffinity(0) == cores


def test_the_least_disturbed_block_counts():
    assert quiet_core.undisturbed_s([[0.5, 0.6], [0.2, 0.9, 0.3], [0.4]]) == 0.3


def test_configurations_that_save_memory_are_the_same_but_for_that():
    plain, saving = draw(12, 3), draw(12, 3, saves=True)
    assert all(case.has_own_optimizer for case in saving)
    assert not any(case.has_own_optimizer for case in plain)
    states = {(case.optimizer_state, case.master_weights) for case in saving}
    assert len(states) == 3
    for one, other in zip(plain, saving, strict=True):
        changes = {name: one.axes[name] for name in ("optimizer_state", "master_weights")}
        assert other.changed(gradient_checkpointing=one.gradient_checkpointing, **changes) == one
