"""Predictions in the search: what is skipped, what comes first, how often a skip was wrong."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from phase8_tune.tuner.predict.fits import RECOMMEND
from phase8_tune.tuner.predict.prediction import Forecast, Predictor, Rate
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.rate.throughput import Correction, MeasuredStep, StepEstimate, correct
from phase8_tune.tuner.predict.store import PredictionStore
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search import foresight
from phase8_tune.tuner.search.foresight import (
    Forecasts,
    LikelyBestFirst,
    PredictedMemoryRule,
    count_skips,
    forecast_all,
    guide,
    measured_steps,
)
from phase8_tune.tuner.search.strategy import DEFAULT_FILTERS, RowOrder, Strategy
from phase8_tune.tuner.study.definition import SearchSettings
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import DeviceInfo
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from .report_records import make_candidate, make_record
from .search_bench import ALL_TINY, BUDGET_BYTES, TINY, Bench


class Nothing(Strategy):
    """Proposes nothing: what is measured nevertheless, foresight asked for."""

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        return None


def forecast(rate: float, *, over: bool = False, tokens: int = 1) -> Forecast:
    step = StepEstimate(traffic_s=tokens / rate, arithmetic_s=0.0, floor_s=0.0, host_s=0.0)
    return Forecast(
        is_over=over,
        peak_bytes=3 * BUDGET_BYTES if over else BUDGET_BYTES // 2,
        tokens_per_s=Rate(low=rate / 2, expected=rate, high=2 * rate),
        limited_by="memory traffic",
        step=step,
    )


def forecasts_of(candidates: list[Candidate]) -> Forecasts:
    """Throughput grows with the batch; a batch of 16 is over the budget."""
    return {
        c.digest(): forecast(c.batch_size + c.n_seq / 1000, over=c.batch_size == 16, tokens=c.tokens_per_step)
        for c in candidates
    }


def run(folder: Path, check_share: float) -> tuple[Bench, tuple[Record, ...]]:
    bench = Bench(folder)
    then = RowOrder(ALL_TINY)
    settings = SearchSettings(check_share=check_share)
    strategy, rule = guide(forecasts_of(ALL_TINY), ALL_TINY, settings, then)
    return bench, bench.run(strategy=strategy, filters=(*DEFAULT_FILTERS, rule)).records


def test_what_is_certainly_over_is_recorded_and_not_launched(tmp_path: Path) -> None:
    bench, records = run(tmp_path, check_share=0.0)
    skipped = [r for r in records if r.to_candidate().batch_size == 16]
    assert len(skipped) == 8
    assert {(r.attempt, r.measurement.outcome) for r in skipped} == {(0, Outcome.PREDICTED_OVER_BUDGET)}
    assert all(r.attempt == 1 for r in records if r not in skipped)
    trial = bench.trial_of(skipped[0].digest)
    assert trial.state.name == "PRUNED"


def test_a_skip_is_told_by_how_much_the_whole_process_would_be_over(tmp_path: Path) -> None:
    """Torch's part is within the budget; with what is outside of it, it is 2.4 % over."""
    skipped, *others = ALL_TINY
    little = replace(forecast(1.0, over=True), peak_bytes=round(1.024 * BUDGET_BYTES))
    bench = Bench(tmp_path)
    rule = PredictedMemoryRule({skipped.digest(): little}, check_share=0.0, seed=0)
    bench.run(strategy=RowOrder(ALL_TINY), filters=(rule,))
    assert bench.trial_of(skipped.digest()).constraints["vram"] == pytest.approx(0.024)
    assert bench.measurer.measured == [c.digest() for c in others]


@pytest.mark.parametrize("version", ["reference", "fast"])
def test_a_forecast_has_the_peak_of_the_whole_process(tmp_path: Path, version: str) -> None:
    """Torch's part would be within the budget; a captured step has its graph outside of it as well."""
    candidate = replace(ALL_TINY[0], kernel_version=version, batch_size=64)
    with PredictionStore(tmp_path) as store:
        predictor = Predictor(profile=gpu_profile("h200"), store=store)
        whole = predictor.predict(candidate, 2**40)
        budget_bytes = whole.peak_allocated_bytes + predictor.outside_bytes(candidate) - 2**24
        (found,) = predictor.survey([candidate], budget_bytes, RECOMMEND)
    assert found.is_over
    assert whole.peak_allocated_bytes < budget_bytes < found.peak_bytes <= whole.peak_bytes


def test_the_likely_best_of_every_cell_come_first_fastest_first(tmp_path: Path) -> None:
    _, records = run(tmp_path, check_share=0.0)
    first = [r.to_candidate() for r in records[:4]]
    assert {(c.model, c.n_seq) for c in first} == {(m, n) for m in ("nano", "small") for n in (64, 256)}
    assert {c.batch_size for c in first} == {4}
    assert [c.n_seq for c in first] == [256, 256, 64, 64]


def test_a_share_of_the_skips_is_measured_and_counted(tmp_path: Path) -> None:
    _, records = run(tmp_path, check_share=1.0)
    skips = count_skips(records, forecasts_of(ALL_TINY))
    assert (skips.skipped, skips.checked) == (0, 8)
    assert skips.wrong == sum(r.fits for r in records if r.to_candidate().batch_size == 16)
    assert f"8 measured nevertheless, of which {skips.wrong} fitted" in skips.sentence()


def test_the_checked_share_is_measured_whatever_the_sampler_likes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    strategy, rule = guide(forecasts_of(ALL_TINY), ALL_TINY, SearchSettings(check_share=1.0), Nothing())
    records = bench.run(strategy=strategy, filters=(rule,)).records
    checked = [r for r in records if r.to_candidate().batch_size == 16]
    assert len(checked) == 8
    assert {r.attempt for r in checked} == {1}
    # the likely best of each cell before them
    assert [r.to_candidate().batch_size for r in records[:4]] == [4] * 4


VERSIONS = ("fast", "v2")
CELLS = {
    (n_seq, version): make_candidate(n_seq=n_seq, kernel_version=version)
    for n_seq in (256, 512, 1024)
    for version in VERSIONS
}


def forecasts_of_versions() -> Forecasts:
    """fast 1000, v2 900 tokens a second; longer sequences are a little slower."""
    return {
        c.digest(): forecast({"fast": 1000.0, "v2": 900.0}[v] - n / 100, tokens=c.tokens_per_step)
        for (n, v), c in CELLS.items()
    }


def proposed(*records: Record) -> Candidate | None:
    knowledge = Knowledge(records)
    strategy = LikelyBestFirst(CELLS.values(), forecasts_of_versions(), Nothing())
    return strategy.propose(knowledge, lambda candidate: not knowledge.is_settled(candidate))


def test_measurements_change_what_is_likely_best() -> None:
    """fast measures at half of its forecast, v2 at all of it: the other cells' likely best is v2 then."""
    assert proposed() == CELLS[256, "fast"]
    slow = [make_record(CELLS[n, "fast"], tokens_per_s=500.0) for n in (256, 512)]
    true = make_record(CELLS[256, "v2"], tokens_per_s=897.0)
    assert proposed(slow[0]) == CELLS[512, "fast"]  # both versions' forecasts are halved by one measurement
    assert proposed(*slow, true) == proposed(true, *reversed(slow)) == CELLS[512, "v2"]


@pytest.mark.parametrize("seed", range(4))
def test_a_strategy_that_has_followed_a_search_proposes_what_a_new_one_would(seed: int) -> None:
    chance = random.Random(seed)
    candidates = [
        make_candidate(n_seq=n, batch_size=b, kernel_version=v)
        for n in (256, 512)
        for b in (1, 2, 4, 8, 16)
        for v in VERSIONS
    ]
    forecasts = {c.digest(): forecast(chance.choice([10, 20, 30.0, 40]), tokens=8) for c in candidates}
    followed, knowledge = LikelyBestFirst(candidates, forecasts, Nothing()), Knowledge()
    proposals = 0
    while (found := followed.propose(knowledge, knowledge.is_available)) is not None:
        fresh = LikelyBestFirst(candidates, forecasts, Nothing())
        assert fresh.propose(knowledge, knowledge.is_available) == found
        proposals += 1
        ends = chance.choice([Outcome.OK, Outcome.OOM, Outcome.TIMEOUT])
        knowledge.add(make_record(found, outcome=ends, tokens_per_s=chance.uniform(5, 50)))
    fresh = LikelyBestFirst(candidates, forecasts, Nothing())
    assert fresh.propose(knowledge, knowledge.is_available) is None
    assert proposals >= 2


def test_a_cell_is_done_once_its_likely_best_is_measured() -> None:
    exact = [make_record(CELLS[n, "fast"], tokens_per_s=1000.0 - n / 100) for n in (256, 512, 1024)]
    assert proposed(*exact) is None


def test_where_the_likely_best_ran_out_of_memory_the_next_is_taken() -> None:
    failed = make_record(CELLS[256, "fast"], outcome=Outcome.OOM, peak_bytes=None)
    done = [make_record(CELLS[n, "fast"], tokens_per_s=1000.0 - n / 100) for n in (512, 1024)]
    assert proposed(failed, *done) == CELLS[256, "v2"]


def test_a_correction_is_made_again_the_less_often_the_more_it_is_made_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def count_and_correct(steps: Sequence[MeasuredStep]) -> Correction:
        made.append(len(steps))
        return correct(steps)

    monkeypatch.setattr(foresight, "correct", count_and_correct)
    candidates = [make_candidate(batch_size=batch) for batch in range(1, 301)]
    forecasts = {c.digest(): forecast(1.0 / c.batch_size) for c in candidates}
    strategy, knowledge = LikelyBestFirst(candidates[:1], forecasts, RowOrder(candidates)), Knowledge()
    for candidate in candidates:
        assert strategy.propose(knowledge, knowledge.is_available) == candidate
        knowledge.add(make_record(candidate))
    assert made[:66] == [*range(65), 66]
    assert all(after <= before * 65 / 64 + 1 for before, after in itertools.pairwise(made))
    assert len(made) < 64 + 64 * math.log(300 / 64) + 2


def test_a_correction_follows_from_measured_records_alone() -> None:
    forecasts = forecasts_of_versions()
    halved = [
        make_record(c, tokens_per_s=(1000.0 if v == "fast" else 900.0) / 2) for (_, v), c in CELLS.items()
    ]
    correction = correct(measured_steps(halved, forecasts))
    # Some points are trusted for the most part
    assert 0.9 * math.log(2) < correction.log_factor("fast", "memory traffic") < math.log(2)
    failed = make_record(CELLS[256, "v2"], outcome=Outcome.OOM, peak_bytes=None)
    assert measured_steps([failed], forecasts) == []


def test_which_skips_are_checked_follows_from_the_seed() -> None:
    candidates = [
        Candidate.from_dict({**ALL_TINY[0].to_dict(), "batch_size": batch}) for batch in range(1, 401)
    ]
    forecasts = {c.digest(): forecast(1.0, over=True) for c in candidates}

    def passed(seed: int) -> list[int]:
        rule = PredictedMemoryRule(forecasts, check_share=0.1, seed=seed)
        return [c.batch_size for c in candidates if rule.reject(c, Knowledge()) is None]

    assert passed(0) == passed(0) != passed(1)
    assert 15 <= len(passed(0)) <= 70


def test_without_a_forecast_nothing_is_rejected_or_preferred() -> None:
    rule = PredictedMemoryRule({}, check_share=0.0, seed=0)
    assert all(rule.reject(c, Knowledge()) is None for c in ALL_TINY)
    strategy = LikelyBestFirst(ALL_TINY, {}, RowOrder(ALL_TINY))
    assert strategy.propose(Knowledge(), lambda _: True) == ALL_TINY[0]


def test_a_known_card_has_forecasts_and_others_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known = DeviceInfo(kind="cuda", name="NVIDIA H200", total_bytes=2**37)
    found = forecast_all(TINY, known, BUDGET_BYTES, 0)
    assert found is not None
    assert set(found) == {c.digest() for c in ALL_TINY}
    assert 0 < sum(f.is_over for f in found.values()) < len(found)
    unknown = known.model_copy(update={"name": "A card of tomorrow"})
    assert forecast_all(TINY, unknown, BUDGET_BYTES, 0) is None
    cpu = known.model_copy(update={"kind": "cpu"})
    assert forecast_all(TINY, cpu, BUDGET_BYTES, 0) is None


def test_another_workloads_candidates_have_no_forecast_and_are_not_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = TINY.model_copy(update={"workload": "theirs:WORKLOAD"})
    found = forecast_all(
        other, DeviceInfo(kind="cuda", name="NVIDIA H200", total_bytes=2**37), BUDGET_BYTES, 0
    )
    assert found == {}
    _, rule = guide(found, SearchSpace(other).enumerate(), SearchSettings(check_share=0.0), Nothing())
    assert not any(rule.reject(candidate, Knowledge()) for candidate in SearchSpace(other).enumerate())
