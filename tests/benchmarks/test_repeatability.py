"""The repeatability benchmark without a GPU: what it chooses, how it measures, what it says."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.benchmarks import repeatability
from phase8_tune.benchmarks.drawn_models import MODELS
from phase8_tune.benchmarks.repeatability import draw, in_turn, measure_pairs, read_pairs
from phase8_tune.benchmarks.repeatability_report import Pair, report_of, summary_of
from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.measuring.measurer import Measurer
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import Measurement
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record
from phase8_tune.tuner.values.timing import Timing

NAMES = {"gpu": "a card", "driver": "1", "torch": "2", "triton": "3"}


def measurement(step_s: float = 0.1, peak_bytes: int = 1000, outcome: Outcome = Outcome.OK) -> Measurement:
    if outcome is not Outcome.OK:
        return Measurement(outcome=outcome)
    return Measurement(outcome=outcome, samples_s=(step_s,) * 5, peak_bytes=peak_bytes)


def pair(first: Measurement, second: Measurement) -> Pair:
    return Pair(candidate=draw(1, 0, "cuda")[0], first=first, second=second, seconds=7.0)


def test_all_models_are_drawn_and_fast_kernels_mostly() -> None:
    drawn = draw(120, 3, "cuda")
    assert len({c.digest() for c in drawn}) == 120
    assert [sum(c.model == model for c in drawn) for model in MODELS] == [20] * 6
    assert sum(c.kernel_version == "fast" for c in drawn) == 96
    assert {c.kernel_version for c in drawn} == {"fast", "v1", "v2"}
    assert draw(120, 3, "cuda") == drawn != draw(120, 4, "cuda")


def test_a_cpu_gets_what_it_can_run() -> None:
    assert {(c.model, c.kernel_version) for c in draw(5, 0, "cpu")} == {("nano", "reference")}
    assert len(draw(100, 0, "cpu")) == 12  # all there are


def test_models_come_in_turn_as_far_as_they_go() -> None:
    drawn = [c for c in draw(24, 0, "cuda") if c.model in ("nano", "xl")]
    nano = [c for c in drawn if c.model == "nano"]
    xl = [c for c in drawn if c.model == "xl"][:2]
    assert in_turn([*xl, *nano]) == [nano[0], xl[0], nano[1], xl[1], nano[2], nano[3]]


class Clock:
    """Moves by what measuring takes, and by nothing else."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Factory:
    """Makes a measurer for each measurement, and notes what each was given."""

    def __init__(self, clock: Clock, seconds: float = 10.0) -> None:
        self.clock, self.seconds = clock, seconds
        self.made: list[FormulaMeasurer] = []
        self.earlier: list[int] = []

    @contextmanager
    def __call__(self, earlier: Sequence[Record]) -> Iterator[Measurer]:
        def pass_time(candidate: Candidate) -> None:
            self.clock.now += self.seconds

        self.made.append(FormulaMeasurer(repeatability.BUDGET_BYTES, before=pass_time))
        self.earlier.append(len(earlier))
        yield self.made[-1]
        self.made[-1].close()


def test_every_measurement_has_a_fresh_worker() -> None:
    factory = Factory(Clock())
    chosen = draw(3, 0, "cuda")
    pairs = list(measure_pairs(chosen, factory, 1000.0, factory.clock))
    assert [p.candidate for p in pairs] == chosen
    assert [len(m.measured) for m in factory.made] == [1] * 6
    assert all(m.is_closed for m in factory.made)
    assert factory.earlier == [0, 1, 2, 3, 4, 5]  # so that a version is checked once, not six times
    assert {p.seconds for p in pairs} == {20.0}


@pytest.mark.parametrize(("seconds", "done"), [(19.0, 1), (39.0, 1), (40.0, 2), (59.0, 2)])
def test_no_pair_is_begun_that_would_not_be_done_in_time(seconds: float, done: int) -> None:
    factory = Factory(Clock())
    assert len(list(measure_pairs(draw(4, 0, "cuda"), factory, seconds, factory.clock))) == done


def test_differences_are_shares_of_the_mean() -> None:
    found = pair(measurement(0.1, 1000), measurement(0.1 / 1.02, 1004))
    assert found.rate_difference() == pytest.approx(0.02 / 1.01)
    assert found.peak_difference() == pytest.approx(4 / 1002)
    assert "tokens/s 1.98% apart, peak memory 0.399%" in found.sentence()


def test_the_summary_counts_what_is_within_the_goals_and_leaves_out_failures() -> None:
    pairs = [
        pair(measurement(0.1, 1000), measurement(0.1, 1000)),
        pair(measurement(0.1, 1000), measurement(0.101, 1010)),
        pair(measurement(0.1, 1000), measurement(0.11, 1000)),
        pair(measurement(outcome=Outcome.OOM), measurement(outcome=Outcome.OOM)),
    ]
    summary = summary_of(pairs)
    assert (summary["configurations"], summary["measured_twice"]) == (4, 3)
    assert (summary["tokens_per_s_within_goal"], summary["peak_bytes_within_goal"]) == (2, 2)
    assert summary["tokens_per_s_difference_max"] == pytest.approx(0.01 / 0.105)
    assert summary["peak_bytes_difference_max"] == pytest.approx(10 / 1005)
    report = report_of(pairs, "a card", 8 << 30)
    assert report.startswith("# 3 configurations measured twice by fresh processes: a card, budget 8GB\n")
    assert "less than 3% in 2 of 3 (at most 9.52%)" in report
    assert "less than 0.5% in 2 of 3 (at most 0.995%)" in report
    assert "| oom, oom" in report


def test_nothing_measured_has_no_differences() -> None:
    summary = summary_of([pair(measurement(outcome=Outcome.OOM), measurement())])
    assert summary["tokens_per_s_difference_max"] is None
    assert "0 of 0" in report_of([], "a card", 8 << 30)


def test_a_pair_comes_back_equal() -> None:
    found = pair(measurement(0.1, 1000), measurement(0.2, 1010))
    assert Pair.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(("change", "kept"), [({}, 1), ({"gpu": "another"}, 0), ({"torch": "9"}, 0)])
def test_only_pairs_of_the_same_gpu_and_software_are_kept(
    tmp_path: Path, change: dict[str, str], kept: int
) -> None:
    repeatability.write_results([pair(measurement(), measurement())], tmp_path / "out", {}, NAMES)
    assert len(read_pairs(tmp_path / "out", NAMES | change)) == kept
    assert read_pairs(tmp_path / "nothing", NAMES) == read_pairs(None, NAMES) == []


def benchmark(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["repeatability", "--device", "cpu", *options])
    return exit_code(lambda: repeatability.main())


def test_on_a_cpu_with_the_real_worker_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Two steps: what they take is not asked
    short = functools.partial(Timing, warmup=0, iterations=2)
    monkeypatch.setattr(repeatability, "Timing", short)
    output = ["--output", str(tmp_path / "out")]
    assert benchmark(monkeypatch, "--count", "1", *output) == 0
    capsys.readouterr()
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["summary"]["measured_twice"] == 1
    assert found["pairs"][0]["first"]["device"]["kind"] == "cpu"
    assert math.isfinite(found["summary"]["peak_bytes_difference_max"])
    assert (tmp_path / "out" / "report.md").read_text().startswith("# 1 configurations measured twice")
    # The same command goes on: the first pair is kept as it was.
    assert benchmark(monkeypatch, "--count", "2", *output) == 0
    more: dict[str, Any] = json.loads((tmp_path / "out" / "results.json").read_text())
    assert more["pairs"][0] == found["pairs"][0]
    assert len(more["pairs"]) == 2


def test_no_time_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(repeatability, "measure_pairs", lambda *arguments: iter(()))
    assert benchmark(monkeypatch, "--count", "1", "--seconds", "1") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected at least one configuration measured in 1 s, got nothing" in line
