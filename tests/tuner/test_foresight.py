"""Predictions in the search: what is skipped, how often a skip was wrong, and what is waited for."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from phase8_tune.tuner.builtin.phase8.spec import SPEC
from phase8_tune.tuner.predict.fits import LAUNCH, RECOMMEND
from phase8_tune.tuner.predict.outlook import Outlook
from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.store import PredictionStore
from phase8_tune.tuner.predict.tracers import LocalTracers
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.foresight import Foresight, LookingAhead, in_order
from phase8_tune.tuner.search.guided import GuidedSearch
from phase8_tune.tuner.search.skips import PredictedMemoryRule, count_skips, to_check
from phase8_tune.tuner.search.strategy import DEFAULT_FILTERS, RowOrder
from phase8_tune.tuner.study.definition import SearchSettings, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import DeviceError
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record
from phase8_tune.tuner.values.workload_spec import note_spec

from .outlooks import outlook_of, outlooks_of
from .report_records import make_record
from .search_bench import ALL_TINY, AXES, BUDGET_BYTES, TINY, Bench

SPACE = SearchSpace(TINY)


def tiny_outlooks() -> list[Outlook]:
    """Throughput grows with the batch; a batch of 16 is over the budget."""
    return outlooks_of(ALL_TINY, 4, lambda c: c.batch_size + c.n_seq / 1000)


def run(folder: Path, check_share: float) -> tuple[Bench, tuple[Record, ...]]:
    bench = Bench(folder)
    foresight = Foresight.of(tiny_outlooks())
    checks = to_check(SPACE, foresight, SearchSettings(check_share=check_share))
    strategy = GuidedSearch(foresight, RowOrder(ALL_TINY), checks, budget_bytes=BUDGET_BYTES)
    rule = PredictedMemoryRule(foresight, checks)
    return bench, bench.run(strategy=strategy, filters=(*DEFAULT_FILTERS, rule)).records


def test_what_is_predicted_over_is_recorded_and_not_launched(tmp_path: Path) -> None:
    bench, records = run(tmp_path, check_share=0.0)
    skipped = [r for r in records if r.to_candidate().batch_size == 16]
    assert len(skipped) == 8
    assert {(r.attempt, r.measurement.outcome) for r in skipped} == {(0, Outcome.PREDICTED_OVER_BUDGET)}
    assert all(r.attempt == 1 for r in records if r not in skipped)
    assert bench.trial_of(skipped[0].digest).state.name == "PRUNED"


def test_a_skip_is_told_by_how_much_the_whole_process_would_be_over(tmp_path: Path) -> None:
    """Between two rungs and beyond the last, bytes are straight in the batch: 0.98 of the budget at 4."""
    bench, records = run(tmp_path, check_share=0.0)
    for record in records:
        if record.attempt == 0:
            trial = bench.trial_of(record.digest)
            assert trial.constraints["vram"] == pytest.approx(0.98 * 16 / 4 - 1)


@pytest.mark.parametrize("version", ["reference", "fast"])
def test_an_outlook_has_the_peak_of_the_whole_process(tmp_path: Path, version: str) -> None:
    """Torch's part would be within the budget; a captured step has its graph outside of it as well."""
    candidate = ALL_TINY[0].changed(kernel_version=version, batch_size=64)
    with PredictionStore(tmp_path, processes=1) as store:
        predictor = Predictor(profile=gpu_profile("h200"), store=store)
        whole = predictor.predict(candidate, 2**40)
        budget_bytes = whole.peak_allocated_bytes + predictor.outside_bytes(candidate) - 2**24
        [found] = predictor.look_ahead([(candidate.line(), (1, 64))], budget_bytes, RECOMMEND)
    assert found.largest == 1
    assert whole.peak_allocated_bytes < budget_bytes < found.forecast(64).peak_bytes <= whole.peak_bytes
    assert found.recommended is not None
    assert found.recommended.candidate == candidate.at(1)
    assert found.recommended.fits


def test_a_share_of_the_skips_is_measured_and_counted(tmp_path: Path) -> None:
    bench, records = run(tmp_path, check_share=1.0)
    skips = count_skips(records, Foresight.of(tiny_outlooks()))
    over = [r for r in records if r.to_candidate().batch_size == 16]
    assert (skips.skipped, skips.checked, skips.launched) == (0, 8, len(records) - 8)
    assert skips.wrong == sum(r.fits for r in over)
    assert f"8 measured nevertheless, of which {skips.wrong} fitted" in skips.sentence()
    assert {r.attempt for r in over} == {1}
    assert bench.measurer.measured


def test_by_default_nothing_is_checked_and_nothing_waited_for() -> None:
    waiting = Foresight(SPACE.lines)
    assert to_check(SPACE, waiting, SearchSettings()) == []


def test_what_runs_out_of_memory_although_predicted_to_fit_is_counted() -> None:
    ended = [Outcome.OOM, Outcome.OK, Outcome.OVER_BUDGET]
    records = [make_record(c, outcome=o) for c, o in zip(ALL_TINY, ended, strict=False)]
    skips = count_skips(records, Foresight.of(outlooks_of(ALL_TINY, 16, lambda c: 1.0)))
    assert (skips.launched, skips.ran_out, skips.skipped) == (3, 2, 0)
    assert "3 were launched and 2 ran out of memory" in skips.sentence()


def test_without_an_outlook_nothing_is_rejected_or_preferred() -> None:
    nothing = Foresight.of([])
    rule = PredictedMemoryRule(nothing)
    assert all(rule.reject(c, Knowledge()) is None for c in ALL_TINY)
    assert (
        GuidedSearch(nothing, RowOrder(ALL_TINY), budget_bytes=BUDGET_BYTES).propose(
            Knowledge(), lambda _: True
        )
        == ALL_TINY[0]
    )


def test_a_line_is_waited_for_and_no_other() -> None:
    first, second, *_ = tiny_outlooks()
    foresight = Foresight([first.line, second.line])
    foresight.add(first)
    assert foresight.outlook(first.line) is first
    found: list[Outlook | None] = []
    asking = threading.Thread(target=lambda: found.append(foresight.outlook(second.line)))
    asking.start()
    foresight.add(second)
    asking.join(timeout=10)
    assert found == [second]


def test_the_first_proposal_needs_one_outlook_only() -> None:
    first, *others = tiny_outlooks()
    foresight = Foresight([outlook.line for outlook in (first, *others)])
    strategy = GuidedSearch(foresight, RowOrder(()), budget_bytes=BUDGET_BYTES)
    foresight.add(first)
    knowledge = Knowledge()
    assert strategy.propose(knowledge, knowledge.is_available) == first.line.at(4)


def test_what_ends_the_predictions_ends_who_waits_for_them() -> None:
    foresight = Foresight(SPACE.lines)
    foresight.complete(DeviceError("a process that predicts was ended"))
    with pytest.raises(DeviceError, match="was ended"):
        foresight.outlook(SPACE.lines[0])
    with pytest.raises(DeviceError, match="was ended"):
        GuidedSearch(foresight, RowOrder(()), budget_bytes=BUDGET_BYTES).propose(Knowledge(), lambda _: True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def ahead(definition_space: SearchSpace) -> LookingAhead:
    return LookingAhead(
        definition_space,
        gpu_profile("h200"),
        budget_bytes=BUDGET_BYTES,
        reserve_bytes=0,
        tracers=LocalTracers(2),
    )


def test_lines_are_predicted_beside_the_search(cache: Path) -> None:
    text = AXES.replace("[nano, small]", "[nano]").replace("[64, 256]", "[64]").replace("false, true", "true")
    space = SearchSpace(parse_definition(text, "smaller"))
    assert len(space.lines) == 1
    with ahead(space) as looking:
        found = {line: looking.foresight.outlook(line) for line in space.lines}
    assert looking.foresight.is_complete
    for line, outlook in found.items():
        assert outlook is not None
        assert outlook.line == line
        assert outlook.largest in (0, 1, 4, 16)
    # the same questions, in another way
    with PredictionStore() as store:
        predictor = Predictor(profile=gpu_profile("h200"), store=store)
        [line] = space.lines
        [one] = predictor.look_ahead([(line, space.batches(line))], BUDGET_BYTES, LAUNCH)
    assert one == found[line]


def test_a_search_that_ends_early_leaves_no_process_behind(cache: Path) -> None:
    with ahead(SPACE) as looking:
        pass
    assert looking.foresight.is_complete
    assert not any(thread.name == "predictions" for thread in threading.enumerate())


def test_another_workloads_candidates_are_not_predicted_and_not_rejected(cache: Path) -> None:
    note_spec(replace(SPEC, name="theirs:WORKLOAD"))
    other = SearchSpace(parse_definition(f"workload: theirs:WORKLOAD\n{AXES}", "other"))
    with ahead(other) as looking:
        rule = PredictedMemoryRule(looking.foresight)
        assert not any(rule.reject(candidate, Knowledge()) for candidate in other.enumerate())
        assert looking.foresight.known == ()


def test_every_models_shortest_sequence_comes_first() -> None:
    order = in_order(SPACE.lines)
    assert sorted(map(repr, order)) == sorted(map(repr, SPACE.lines))
    half = len(order) // 2
    assert {line.n_seq for line in order[:half]} == {64}
    assert {line.model for line in order[:half]} == {"nano", "small"}


def test_a_forecast_between_two_rungs_is_straight() -> None:
    line = ALL_TINY[0].line()
    outlook = outlook_of(line, range(1, 101), 64, lambda batch: 100.0)
    at_20, at_40 = outlook.forecast(20), outlook.forecast(40)
    assert at_40.peak_bytes == pytest.approx(2 * at_20.peak_bytes)
    assert at_20.tokens_per_s.expected == pytest.approx(100.0)
    assert not outlook.forecast(64).is_over
    assert outlook.forecast(65).is_over
    assert list(outlook.fitting) == list(range(1, 65))
    assert outlook.forecast(100).peak_bytes == pytest.approx(0.98 * BUDGET_BYTES * 100 / 64, rel=0.01)


def test_candidates_of_one_line_know_it() -> None:
    candidate: Candidate = ALL_TINY[3]
    assert candidate.line().at(candidate.batch_size) == candidate
