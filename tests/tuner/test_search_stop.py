"""How a search ends: interrupts, a device or a disk that fails, trials, time, a frontier that stalls."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from phase8_tune.tuner.measuring.executor import Finished
from phase8_tune.tuner.measuring.pool import LocalExecutor
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.progress import StopReason
from phase8_tune.tuner.study.definition import SearchSettings, Stall, parse_definition
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import DeviceError, UserInputError
from phase8_tune.tuner.values.interrupt import interrupt_deferred
from phase8_tune.tuner.values.outcome import Outcome

from .search_bench import ROWS, Bench


def test_an_interrupt_keeps_what_was_measured_and_the_rest_comes_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parse_definition(ROWS, "rows"))

    def interrupt(_: Candidate) -> None:
        if len(bench.measurer.measured) == 2:
            raise KeyboardInterrupt

    bench.measurer.before = interrupt
    result = bench.run()
    assert (result.stop_reason, len(result.records)) == (StopReason.INTERRUPTED, 2)
    assert [t.state.name for t in bench.trials] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert optuna.load_study(study_name="s", storage=bench.storage).user_attrs["stop_reason"] == "interrupted"
    bench.measurer.before = lambda _: None
    assert bench.run().launched_now == 2
    assert len(set(bench.measurer.measured)) == len(bench.measurer.measured) == 4


def test_an_interrupt_while_writing_waits_for_the_record_and_its_trial(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parse_definition(ROWS, "rows"))
    real = Knowledge.add

    def add_and_interrupt(self: Knowledge, record: Any) -> None:
        real(self, record)
        signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Knowledge, "add", add_and_interrupt)
        result = bench.run()
    assert result.stop_reason is StopReason.INTERRUPTED
    assert [t.state.name for t in bench.trials] == ["COMPLETE"]
    assert len(read_records(bench.path)) == 1


def test_an_interrupt_between_a_measurement_and_its_record_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, parse_definition(ROWS, "rows"))
    real = LocalExecutor.take

    def interrupt_and_take(self: LocalExecutor) -> Finished | None:
        if bench.measurer.measured:
            signal.raise_signal(signal.SIGINT)
        return real(self)

    monkeypatch.setattr(LocalExecutor, "take", interrupt_and_take)
    assert bench.run().stop_reason is StopReason.INTERRUPTED
    assert [r.digest for r in read_records(bench.path)] == bench.measurer.measured
    assert len(bench.measurer.measured) == 1
    assert [t.state.name for t in bench.trials] == ["COMPLETE"]


def test_a_second_interrupt_does_not_wait() -> None:
    reached: list[int] = []
    with pytest.raises(KeyboardInterrupt), interrupt_deferred():  # noqa: PT012 - the place is what is tested
        signal.raise_signal(signal.SIGINT)
        reached.append(1)
        signal.raise_signal(signal.SIGINT)
        reached.append(2)
    assert reached == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_nothing_is_deferred() -> None:
    entered: list[bool] = []

    def enter() -> None:
        with interrupt_deferred():
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [True]


def test_a_failing_device_ends_the_study_and_keeps_the_records(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parse_definition(ROWS, "rows"))

    def fail(_: Candidate) -> None:
        if len(bench.measurer.measured) == 1:
            raise DeviceError("the GPU is gone")

    bench.measurer.before = fail
    with pytest.raises(DeviceError):
        bench.run()
    assert [t.state.name for t in bench.trials] == ["COMPLETE", "FAIL"]
    bench.measurer.before = lambda _: None
    assert bench.run().launched_now == 3


def test_a_full_disk_ends_the_study_with_one_line_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, parse_definition(ROWS, "rows"))

    def no_space(*_: object) -> int:
        raise OSError(28, "No space left on device")

    def fill(_: Candidate) -> None:
        if len(bench.measurer.measured) == 2:
            monkeypatch.setattr("os.pwrite", no_space)

    bench.measurer.before = fill
    with pytest.raises(UserInputError, match="No space left on device"):
        bench.run()
    monkeypatch.undo()
    assert [r.digest for r in read_records(bench.path)] == bench.measurer.measured[:2]
    bench.measurer.before = lambda _: None
    assert bench.run().launched_now == 2


def test_the_trials_asked_for_are_counted_over_sessions(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.run(SearchSettings(trials=5)).stop_reason is StopReason.TRIALS
    assert bench.run(SearchSettings(trials=5)).launched_now == 0
    assert bench.run(SearchSettings(trials=8)).launched_now == 3


def test_the_time_limit_holds_for_a_session(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    clock = make_clock(bench)
    result = bench.run(SearchSettings(time_limit_s=3.5), clock=clock)
    assert (result.stop_reason, result.launched_now) == (StopReason.TIME, 4)
    assert bench.run(SearchSettings(time_limit_s=100), clock=clock).launched_now > 0
    assert bench.events[0].seconds_left_estimate is None


def test_the_estimate_is_the_mean_so_far_within_the_time_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(SearchSettings(trials=6, time_limit_s=5.0), clock=make_clock(bench))
    estimates = [e.seconds_left_estimate for e in bench.events if e.last is not None]
    assert estimates == [4.0, 3.0, 2.0, 1.0, 0.0]


def make_clock(bench: Bench) -> Callable[[], float]:
    """A clock on which every measurement takes a second and nothing else takes any time."""
    return lambda: float(len(bench.measurer.measured))


def test_a_search_stops_when_the_hypervolume_has_stalled(tmp_path: Path) -> None:
    rows = parse_definition(ROWS.replace("{batch_size: 4}, ", "") + "  # the best first\n", "rows")
    best = rows.row_candidates()[0]
    others = {c.digest(): [Outcome.TIMEOUT] for c in rows.row_candidates()[1:]}
    bench = Bench(tmp_path, rows, outcomes=others)
    result = bench.run(SearchSettings(stall=Stall(measurements=1, growth=0.0)))
    assert result.stop_reason is StopReason.STALLED
    assert bench.measurer.measured[0] == best.digest()
    assert len(bench.measurer.measured) == 2
