"""The prediction benchmark's clock and its refusals, without a GPU: what it would run is replaced."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from phase8_tune.benchmarks import prediction, prediction_report
from phase8_tune.tuner.predict.profiles import gpu_profile

COMPILING_S = 1000.0


@pytest.fixture
def replaced(monkeypatch, tmp_path):
    """The benchmark with a clock that only compiling moves; notes the deadline that measuring gets."""
    answer = SimpleNamespace(reserved_bytes=prediction.GIB)
    seen = SimpleNamespace(now=0.0, deadline=None, answer=answer)
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(prediction, "time", SimpleNamespace(monotonic=lambda: seen.now))
    monkeypatch.setattr(prediction, "present_profile", lambda: gpu_profile("h200"))
    monkeypatch.setattr(prediction, "_ask", lambda store, profile, cases, *_: [answer] * len(cases))

    def compiling(cases):
        seen.now += COMPILING_S

    def measuring(chosen, predictor, deadline):
        seen.deadline = deadline
        return []

    monkeypatch.setattr(prediction, "_compile", compiling)
    monkeypatch.setattr(prediction, "_measure", measuring)
    monkeypatch.setattr(sys, "argv", ["prediction", "--count", "3", "--seconds", "10"])
    return seen


def _refusal(capsys) -> str:
    with pytest.raises(SystemExit) as end:
        prediction.main()
    assert end.value.code == 2
    lines: list[str] = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_nothing_measured_is_one_line_and_exit_2(replaced, capsys):
    assert "--seconds: expected time to measure at least one of 3 configurations, got 10 s" in _refusal(
        capsys
    )


def test_seconds_count_from_the_end_of_compiling(replaced, capsys):
    _refusal(capsys)
    assert COMPILING_S < replaced.deadline <= COMPILING_S + 10


def test_nothing_small_enough_is_one_line_and_exit_2(replaced, capsys):
    replaced.answer.reserved_bytes = None
    assert "got none of the 6 drawn" in _refusal(capsys)


ROW = {
    "candidate": {"kernel_version": "v2", "batch_size": 2, "n_seq": 256},
    "limited_by": "memory",
    "predicted_step_s": 0.1,
    "measured_step_s": 0.2,
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
