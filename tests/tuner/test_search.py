"""The search over a measurer made of formulas, which fails in every listed way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phase8_tune.tuner.measuring.measurer import check_measurement
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.knowledge import MAX_ATTEMPTS, MAX_TAINTED_ATTEMPTS, Knowledge
from phase8_tune.tuner.search.progress import StopReason
from phase8_tune.tuner.search.strategy import DEFAULT_FILTERS, Rejection, Strategy
from phase8_tune.tuner.study.definition import SearchSettings, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import Measurement
from phase8_tune.tuner.values.outcome import Outcome

from .search_bench import ALL_TINY, AXES, BUDGET_BYTES, ROWS, Bench


def test_a_space_is_measured_to_its_end_and_each_candidate_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    result = bench.run()
    assert result.stop_reason is StopReason.EXHAUSTED
    assert sorted(r.digest for r in result.records) == sorted(c.digest() for c in ALL_TINY)
    assert len(bench.measurer.measured) == len(set(bench.measurer.measured)) == result.launched_now
    assert not [t for t in bench.trials if t.state == optuna.trial.TrialState.RUNNING]
    again = bench.run()
    assert (again.stop_reason, again.launched_now) == (StopReason.EXHAUSTED, 0)
    assert again.records == result.records


def test_a_success_is_told_with_its_objectives_constraint_and_attributes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    record = next(r for r in bench.run(SearchSettings(trials=6)).records if r.fits)
    trial, found = bench.trial_of(record.digest), record.measurement
    rate = found.tokens_per_s(record.to_candidate().items_per_step)[0]
    assert trial.state == optuna.trial.TrialState.COMPLETE
    assert trial.values == [pytest.approx(rate), found.peak_bytes, found.body_parameters]
    assert found.peak_bytes is not None
    assert trial.constraints == {"vram": (found.peak_bytes - BUDGET_BYTES) / BUDGET_BYTES}
    assert trial.number == record.trial_number
    assert trial.user_attrs["candidate"] == record.candidate
    assert trial.user_attrs["outcome"] == "ok"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", record.started_at)
    study = optuna.load_study(study_name="s", storage=bench.storage)
    assert study.metric_names == ["tokens_per_s", "peak_bytes", "body_parameters"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE", "MAXIMIZE"]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_data_and_has_its_state(tmp_path: Path, outcome: Outcome) -> None:
    rows = parse_definition(ROWS, "rows")
    first, *others = rows.row_candidates()
    bench = Bench(tmp_path, rows, outcomes={first.digest(): [outcome]})
    result = bench.run()
    assert result.stop_reason is StopReason.EXHAUSTED
    assert {r.digest for r in result.records} == {c.digest() for c in (first, *others)}
    trial = bench.trial_of(first.digest())
    expected = "COMPLETE" if outcome is Outcome.OK else "PRUNED" if outcome.is_memory else "FAIL"
    assert trial.state.name == expected
    assert (trial.constraints.get("vram", 0) > 0) == outcome.is_memory
    attempts = MAX_ATTEMPTS if outcome.is_retried else 1
    if outcome is Outcome.ERROR:  # twice with the same words
        attempts = 2
    assert bench.measurer.measured.count(first.digest()) == attempts
    end = bench.events[-1]
    assert end.failed >= (expected == "FAIL")
    assert end.pruned >= (expected == "PRUNED")


def test_chance_is_retried_and_the_success_counts(tmp_path: Path) -> None:
    rows = parse_definition(ROWS, "rows")
    first = rows.row_candidates()[0]
    bench = Bench(
        tmp_path, rows, outcomes={first.digest(): [Outcome.INTERFERENCE, Outcome.ERROR, Outcome.OK]}
    )
    record = next(r for r in bench.run().records if r.digest == first.digest())
    assert (record.attempt, record.measurement.outcome) == (3, Outcome.OK)
    kept = [r.attempt for r in read_records(bench.path) if r.digest == first.digest()]
    assert kept == [1, 2, 3]


def test_attempts_are_counted_over_sessions_and_each_names_the_trial_that_was_open(tmp_path: Path) -> None:
    rows = parse_definition(ROWS, "rows")
    first = rows.row_candidates()[0]
    bench = Bench(
        tmp_path, rows, outcomes={first.digest(): [Outcome.INTERFERENCE, Outcome.ERROR, Outcome.OK]}
    )

    def interrupt_third(_: Candidate) -> None:
        if len(bench.measurer.measured) == 2:
            raise KeyboardInterrupt

    bench.measurer.before = interrupt_third
    bench.run()
    bench.measurer.before = lambda _: None
    bench.run()
    attempts = [r for r in read_records(bench.path) if r.digest == first.digest()]
    assert [(r.attempt, r.trial_number) for r in attempts] == [(1, 0), (2, 0), (3, 1)]
    told, untold = bench.trials[1], bench.trials[0]
    assert (told.state.name, told.user_attrs["attempt"]) == ("COMPLETE", 3)
    assert (untold.state.name, untold.user_attrs) == ("FAIL", {"digest": first.digest()})
    assert "duplicate_of_trial" not in told.user_attrs


def test_a_tainted_success_is_measured_again_a_bounded_number_of_times(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parse_definition(ROWS, "rows"))
    untainted = bench.measurer.measure

    def measure(candidate: Candidate) -> Measurement:
        return untainted(candidate).model_copy(update={"tainted": ("throttled",)})

    bench.measurer.measure = measure  # type: ignore[method-assign]
    bench.run()
    counts = {bench.measurer.measured.count(d) for d in bench.measurer.measured}
    assert counts == {MAX_TAINTED_ATTEMPTS}


def test_what_does_not_fit_is_not_launched_with_a_larger_batch(tmp_path: Path) -> None:
    rows = parse_definition(ROWS, "rows")
    four, eight, two, sixteen = rows.row_candidates()
    bench = Bench(tmp_path, rows, outcomes={four.digest(): [Outcome.OOM]})
    records = {r.digest: r for r in bench.run().records}
    assert bench.measurer.measured == [four.digest(), two.digest()]
    for larger in (eight, sixteen):
        record = records[larger.digest()]
        assert record.measurement.outcome is Outcome.PREDICTED_OVER_BUDGET
        assert (record.attempt, record.measurement.peak_bytes) == (0, None)
        assert four.digest() in record.measurement.message
    violations = [bench.trial_of(c.digest()).constraints["vram"] for c in (four, eight, sixteen)]
    assert violations == sorted(violations)
    assert violations[0] > 0
    assert (bench.events[-1].done, bench.events[-1].total) == (2, 2)


def test_a_wrong_result_disqualifies_its_version_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = ("reference", "v1")
    monkeypatch.setattr("phase8_tune.tuner.builtin.phase8.spec.KERNEL_VERSIONS", versions)
    definition = parse_definition(AXES.replace("[reference]", "[reference, v1]"), "two")
    wrong = {
        c.digest(): [Outcome.WRONG_RESULT]
        for c in SearchSpace(definition).enumerate()
        if c.kernel_version == "v1"
    }
    bench = Bench(tmp_path, definition, outcomes=wrong)
    result = bench.run()
    assert result.stop_reason is StopReason.EXHAUSTED
    assert len([d for d in bench.measurer.measured if d in wrong]) == 1
    of_reference = [r for r in result.records if r.candidate["kernel_version"] == "reference"]
    assert len(of_reference) == len(ALL_TINY)
    rejected = [r for r in result.records if r.digest in wrong and r.attempt == 0]
    assert all(r.measurement.outcome is Outcome.WRONG_RESULT for r in rejected)


@pytest.mark.parametrize("outcome", [Outcome.SHARED_MEMORY, Outcome.COMPILE_ERROR, Outcome.TIMEOUT])
def test_other_failures_disqualify_nothing_but_their_candidate(tmp_path: Path, outcome: Outcome) -> None:
    bench = Bench(tmp_path, outcomes={c.digest(): [outcome] for c in ALL_TINY})
    bench.run()
    assert len(bench.measurer.measured) == len(ALL_TINY)


OUTCOMES = st.lists(st.sampled_from(list(Outcome)), min_size=1, max_size=3)


@settings(max_examples=20, deadline=None)
@given(
    ends=st.lists(OUTCOMES, min_size=len(ALL_TINY), max_size=len(ALL_TINY)),
    stops=st.lists(st.integers(1, 8), max_size=3),
    devices=st.integers(1, 3),
)
def test_no_candidate_is_measured_twice_under_any_outcomes_and_interruptions(
    tmp_path_factory: pytest.TempPathFactory, ends: list[list[Outcome]], stops: list[int], devices: int
) -> None:
    outcomes = {c.digest(): e for c, e in zip(ALL_TINY, ends, strict=True)}
    bench = Bench(tmp_path_factory.mktemp("run"), outcomes=outcomes)
    # The others share what is measured with the first, and what is to be interrupted.
    bench.others = {
        str(number): FormulaMeasurer(
            BUDGET_BYTES,
            outcomes=outcomes,
            measured=bench.measurer.measured,
            before=lambda candidate: bench.measurer.before(candidate),
        )
        for number in range(1, devices)
    }

    for stop in stops:
        left = [stop]

        def interrupt(_: Candidate, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        bench.measurer.before = interrupt
        bench.run()
    bench.measurer.before = lambda _: None
    result = bench.run()
    assert result.stop_reason is StopReason.EXHAUSTED
    records = read_records(bench.path)
    # Whatever was measured is in the journal once, by one device in order; a digest comes again as a retry.
    kept = [r.digest for r in records if r.attempt > 0]
    assert Counter(kept) == Counter(bench.measurer.measured)
    assert kept == bench.measurer.measured or devices > 1
    seen = [(r.digest, r.attempt) for r in records]
    assert len(seen) == len(set(seen))
    knowledge = Knowledge(records)
    for candidate in ALL_TINY:
        attempts = [r for r in records if r.digest == candidate.digest()]
        is_rejected = any(rule.reject(candidate, knowledge) for rule in DEFAULT_FILTERS)
        assert attempts or is_rejected, "the search ends when nothing is left that may be launched"
        assert all(r.measurement.outcome.is_retried for r in attempts[:-1])
        assert len(attempts) <= MAX_ATTEMPTS
    assert not [t for t in bench.trials if t.state == optuna.trial.TrialState.RUNNING]


def test_a_filter_decides_what_is_launched(tmp_path: Path) -> None:
    class NoSmall:
        def reject(self, candidate: Candidate, knowledge: Knowledge) -> Rejection | None:
            if candidate.model != "small":
                return None
            return Rejection(
                outcome=Outcome.PREDICTED_OVER_BUDGET,
                message="too big",
                predicted_peak_bytes=2 * BUDGET_BYTES,
            )

    bench = Bench(tmp_path)
    result = bench.run(filters=[NoSmall()])
    nano = {c.digest() for c in ALL_TINY if c.model == "nano"}
    assert set(bench.measurer.measured) == nano
    rejected = [r for r in result.records if r.digest not in nano]
    assert {bench.trial_of(r.digest).constraints["vram"] for r in rejected} <= {1.0}


def test_the_first_measured_is_the_first_of_the_space(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(SearchSettings(trials=1))
    assert bench.measurer.measured == [ALL_TINY[0].digest()]
    assert (ALL_TINY[0].model, ALL_TINY[0].n_seq, ALL_TINY[0].batch_size) == ("nano", 64, 1)


def test_a_strategy_decides_what_comes_next(tmp_path: Path) -> None:
    class LastFirst(Strategy):
        has_plan = True

        def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
            return next((c for c in reversed(ALL_TINY) if is_open(c)), None)

    bench = Bench(tmp_path)
    bench.run(SearchSettings(trials=3), strategy=LastFirst())
    assert bench.measurer.measured == [c.digest() for c in ALL_TINY[:-4:-1]]


def test_a_strategy_that_repeats_itself_is_refused(tmp_path: Path) -> None:
    class Same(Strategy):
        has_plan = True

        def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
            return ALL_TINY[0]

    bench = Bench(tmp_path)
    with pytest.raises(ValueError, match="although it is settled or under way"):
        bench.run(strategy=Same())
    assert bench.measurer.measured == [ALL_TINY[0].digest()]


@pytest.mark.parametrize("lacking", ["peak_bytes", "parameters", "body_parameters", "samples_s"])
def test_a_success_without_a_figure_is_an_error(lacking: str) -> None:
    whole = FormulaMeasurer(BUDGET_BYTES).measure(ALL_TINY[0])
    assert check_measurement(whole, BUDGET_BYTES) is whole
    broken = whole.model_copy(update={lacking: () if lacking == "samples_s" else None})
    checked = check_measurement(broken, BUDGET_BYTES)
    assert checked.outcome is Outcome.ERROR
    assert lacking in checked.message


def test_a_success_over_the_budget_is_over_it() -> None:
    whole = FormulaMeasurer(BUDGET_BYTES).measure(ALL_TINY[0])
    assert whole.peak_bytes is not None
    assert check_measurement(whole, whole.peak_bytes).outcome is Outcome.OK
    assert check_measurement(whole, whole.peak_bytes - 1).outcome is Outcome.OVER_BUDGET
    nan = whole.model_copy(update={"samples_s": (float("nan"),)})
    assert check_measurement(nan, BUDGET_BYTES).outcome is Outcome.ERROR
