"""Predictions in the search: what is skipped, what comes first, how often a skip was wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from phase8_tune.tuner.candidate import Candidate
from phase8_tune.tuner.definition import SearchSettings
from phase8_tune.tuner.foresight import (
    Forecasts,
    LikelyBestFirst,
    PredictedMemoryRule,
    count_skips,
    forecast_all,
    guide,
)
from phase8_tune.tuner.knowledge import Knowledge
from phase8_tune.tuner.measurement import DeviceInfo
from phase8_tune.tuner.outcome import Outcome
from phase8_tune.tuner.predict.prediction import Forecast, Rate
from phase8_tune.tuner.predict.throughput import StepEstimate
from phase8_tune.tuner.record import Record
from phase8_tune.tuner.strategy import DEFAULT_FILTERS, RowOrder

from .search_bench import ALL_TINY, BUDGET_BYTES, TINY, Bench

STEP = StepEstimate(traffic_s=1.0, arithmetic_s=0.0, floor_s=0.0, host_s=0.0)


def forecast(rate: float, *, over: bool = False) -> Forecast:
    return Forecast(
        is_over=over,
        allocated_bytes=3 * BUDGET_BYTES if over else BUDGET_BYTES // 2,
        tokens_per_s=Rate(low=rate / 2, expected=rate, high=2 * rate),
        limited_by="memory traffic",
        step=STEP,
    )


def forecasts_of(candidates: list[Candidate]) -> Forecasts:
    """Throughput grows with the batch; a batch of 16 is over the budget."""
    return {c.digest(): forecast(c.batch_size + c.n_seq / 1000, over=c.batch_size == 16) for c in candidates}


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
