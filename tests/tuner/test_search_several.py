"""One search over several devices: side by side, nothing twice, and what becomes of a device that fails."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from phase8_tune.tuner.measuring.measurer import StoppedError
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.search.progress import SearchEvent, StopReason
from phase8_tune.tuner.study.definition import SearchSettings, StudyDefinition, parse_definition
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import DeviceError
from phase8_tune.tuner.values.measurement import DeviceInfo, Measurement
from phase8_tune.tuner.values.outcome import Outcome

from .search_bench import ALL_TINY, BUDGET_BYTES, ROWS, TINY, Bench

LIMIT_S = 60  # after which a test that waits in vain fails
ROWS_OF_FOUR = parse_definition(ROWS, "rows")
EVERYTHING = {c.digest() for c in (*ALL_TINY, *ROWS_OF_FOUR.row_candidates())}


class Card(FormulaMeasurer):
    """A card of formulas with a UUID. Its first trial begins when `together` cards have begun theirs."""

    def __init__(self, uuid: str, together: threading.Barrier, **options: object) -> None:
        super().__init__(BUDGET_BYTES, **options)  # type: ignore[arg-type]
        self.device = DeviceInfo(kind="cuda", name="card", total_bytes=2**34, uuid=uuid)
        self.together = together

    def measure(self, candidate: Candidate) -> Measurement:
        if not self.measured:
            self.together.wait(LIMIT_S)
        return super().measure(candidate)


def with_cards(folder: Path, count: int, definition: StudyDefinition = TINY) -> tuple[Bench, list[Card]]:
    bench = Bench(folder, definition)
    together = threading.Barrier(count)
    cards = [Card(f"GPU-{number}", together) for number in range(count)]
    bench.measurer, bench.others = cards[0], {card.device.uuid or "": card for card in cards[1:]}
    return bench, cards


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("definition", [TINY, ROWS_OF_FOUR], ids=["axes", "rows"])
def test_cards_measure_side_by_side_and_nothing_twice(
    tmp_path: Path, count: int, definition: StudyDefinition
) -> None:
    bench, cards = with_cards(tmp_path, count, definition)
    result = bench.run()
    assert (result.stop_reason, bench.losses) == (StopReason.EXHAUSTED, [])
    measured = [digest for card in cards for digest in card.measured]
    launched = [r for r in result.records if r.attempt > 0]
    assert sorted(measured) == sorted(r.digest for r in launched)
    assert len(set(measured)) == len(measured) == result.launched_now
    for card in cards:
        assert card.measured  # all met at the barrier, so all were measuring at one time
        of_card = {r.digest for r in launched if r.measurement.device == card.device}
        assert of_card == set(card.measured)
    told = Counter(t.user_attrs["digest"] for t in bench.trials if t.state.name != "FAIL")
    assert told.keys() == {r.digest for r in result.records}
    assert not [t for t in bench.trials if t.state == optuna.trial.TrialState.RUNNING]
    assert max(len(event.running) for event in bench.events) == count
    rejected = [r.measurement.device for r in result.records if r.attempt == 0]
    assert all(device is not None and device.uuid is None for device in rejected)


def test_the_trials_asked_for_are_not_exceeded(tmp_path: Path) -> None:
    bench, cards = with_cards(tmp_path, 3)
    result = bench.run(SearchSettings(trials=7))
    assert (result.stop_reason, result.launched_now) == (StopReason.TRIALS, 7)
    assert sum(len(card.measured) for card in cards) == 7


def fail(_: Candidate) -> None:
    raise DeviceError("no worker could be started")


def test_a_card_that_fails_is_set_aside_and_its_candidate_measured_elsewhere(tmp_path: Path) -> None:
    bench, (first, second, third) = with_cards(tmp_path, 3)
    tried: list[str] = []

    def note_and_fail(candidate: Candidate) -> None:
        tried.append(candidate.digest())
        fail(candidate)

    second.before = note_and_fail
    result = bench.run()
    assert result.stop_reason is StopReason.EXHAUSTED
    assert bench.losses == ["GPU-1 is set aside, 2 others go on: no worker could be started"]
    assert second.is_closed
    (left,) = tried
    assert left in first.measured + third.measured
    assert [r.attempt for r in read_records(bench.path) if r.digest == left] == [1]
    assert len({r.digest for r in result.records}) == len(ALL_TINY)
    assert not [
        t for t in bench.trials if t.state.name in ("RUNNING", "FAIL") and t.user_attrs["digest"] == left
    ]


def test_when_all_cards_have_failed_the_records_are_kept_and_the_study_goes_on_later(tmp_path: Path) -> None:
    bench, (first, second) = with_cards(tmp_path, 2, ROWS_OF_FOUR)
    second.before = fail

    def fail_after_one(candidate: Candidate) -> None:
        if first.measured:
            fail(candidate)

    first.before = fail_after_one
    with pytest.raises(DeviceError, match=r"all 2 GPUs failed; the last: no worker") as caught:
        bench.run()
    assert caught.value.exit_code == 4
    assert len(bench.losses) == 1
    assert [r.digest for r in read_records(bench.path)] == first.measured
    assert len(first.measured) == 1
    assert {t.state.name for t in bench.trials} == {"COMPLETE", "FAIL"}
    bench.measurer, bench.others = FormulaMeasurer(BUDGET_BYTES), {}
    assert bench.run().launched_now == 3


def test_a_card_that_does_not_start_is_set_aside(tmp_path: Path) -> None:
    class Dead(FormulaMeasurer):
        @property
        def device(self) -> DeviceInfo:
            raise DeviceError("the worker cannot use its device")

        @device.setter
        def device(self, device: DeviceInfo) -> None:
            """Given by the constructor."""

    bench, _ = with_cards(tmp_path, 1)
    bench.others = {"GPU-dead": Dead(BUDGET_BYTES)}
    assert bench.run().stop_reason is StopReason.EXHAUSTED
    assert bench.losses == ["GPU-dead is set aside, 1 other goes on: the worker cannot use its device"]


def test_a_retry_goes_to_another_card(tmp_path: Path) -> None:
    bench, (broken, sound) = with_cards(tmp_path, 2)
    broken.outcomes = {digest: [Outcome.KILLED] for digest in EVERYTHING}
    result = bench.run()
    assert all(r.fits or r.measurement.outcome.is_memory for r in result.records)
    assert len(broken.measured) == len(set(broken.measured)) > 0
    assert set(broken.measured) <= set(sound.measured)


def test_a_card_that_is_alone_gets_the_retry(tmp_path: Path) -> None:
    bench, (first, second) = with_cards(tmp_path, 2, ROWS_OF_FOUR)
    first.outcomes = {digest: [Outcome.INTERFERENCE, Outcome.OK] for digest in EVERYTHING}
    second.before = fail
    assert all(r.fits for r in bench.run().records)
    assert set(Counter(first.measured).values()) == {2}


def test_a_card_that_gets_ready_late_joins_in(tmp_path: Path) -> None:
    is_awaited, has_joined = threading.Event(), threading.Event()

    class Late(FormulaMeasurer):
        @property
        def device(self) -> DeviceInfo:
            assert is_awaited.wait(LIMIT_S)
            return DeviceInfo(kind="cuda", name="card", total_bytes=2**34, uuid="GPU-late")

        @device.setter
        def device(self, device: DeviceInfo) -> None:
            """Given by the constructor."""

    bench = Bench(tmp_path)
    late = Late(BUDGET_BYTES, before=lambda _: has_joined.set())

    def go_on(_: Candidate) -> None:
        if len(bench.measurer.measured) == 3:
            is_awaited.set()
        elif len(bench.measurer.measured) == 4:
            assert has_joined.wait(LIMIT_S)

    bench.measurer.before = go_on
    bench.others = {"GPU-late": late}
    assert bench.run().stop_reason is StopReason.EXHAUSTED
    assert late.measured


class Hanging(FormulaMeasurer):
    """Its trials end when it is stopped, with a result or without."""

    def __init__(self, *, has_result: bool) -> None:
        super().__init__(BUDGET_BYTES)
        self.has_result, self.is_stopped = has_result, threading.Event()

    def measure(self, candidate: Candidate) -> Measurement:
        assert self.is_stopped.wait(LIMIT_S)
        if not self.has_result:
            raise StoppedError
        return super().measure(candidate)

    def stop(self) -> None:
        self.is_stopped.set()


def interrupt_after(records: int) -> Callable[[SearchEvent], None]:
    def on_event(event: SearchEvent) -> None:
        if event.done == records and event.last is not None:
            raise KeyboardInterrupt

    return on_event


@pytest.mark.parametrize("has_result", [False, True])
def test_an_interrupt_stops_all_cards_and_keeps_what_they_had_finished(
    tmp_path: Path, has_result: bool
) -> None:
    bench = Bench(tmp_path)
    hanging = Hanging(has_result=has_result)
    bench.others = {"hanging": hanging}
    bench.on_event = interrupt_after(3)
    result = bench.run()
    assert result.stop_reason is StopReason.INTERRUPTED
    kept = read_records(bench.path)
    assert Counter(r.digest for r in kept) == Counter(bench.measurer.measured + hanging.measured)
    assert len(hanging.measured) == has_result
    assert hanging.is_closed
    assert bench.measurer.is_closed
    assert not [t for t in bench.trials if t.state == optuna.trial.TrialState.RUNNING]


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (3, 2)])
def test_another_number_of_cards_goes_on_with_the_same_study(tmp_path: Path, before: int, after: int) -> None:
    bench, cards = with_cards(tmp_path, before)
    assert bench.run(SearchSettings(trials=8)).launched_now == 8
    _, others = with_cards(tmp_path, after)
    bench.measurer, bench.others = others[0], {str(card.device.uuid): card for card in others[1:]}
    assert bench.run().stop_reason is StopReason.EXHAUSTED
    measured = [digest for card in (*cards, *others) for digest in card.measured]
    assert len(measured) == len(set(measured))
    assert {r.digest for r in read_records(bench.path)} == {c.digest() for c in ALL_TINY}


def test_a_second_interrupt_does_not_wait_for_a_card_that_does_not_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_for: list[threading.Thread] = []

    def join(self: threading.Thread, timeout: float | None = None) -> None:
        waited_for.append(self)
        raise KeyboardInterrupt

    bench = Bench(tmp_path)
    hanging = Hanging(has_result=False)
    monkeypatch.setattr(hanging, "stop", lambda: None)
    bench.others = {"hanging": hanging}
    bench.on_event = interrupt_after(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", join)
        with pytest.raises(KeyboardInterrupt):
            bench.run()
    assert len(waited_for) == 1
    hanging.is_stopped.set()


def test_an_unexpected_error_on_one_card_ends_the_search_with_it(tmp_path: Path) -> None:
    bench, (_, second) = with_cards(tmp_path, 2)

    def bug(_: Candidate) -> None:
        raise ZeroDivisionError("a bug")

    second.before = bug
    with pytest.raises(ZeroDivisionError, match="a bug"):
        bench.run()
