"""Statistics of samples: against worked figures, and properties over all samples."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.values.timing import Timing
from phase8_tune.tuner.worker.sample_statistics import (
    is_precise,
    mean_interval,
    median_interval,
    summarize,
    t_quantile_95,
)

TIMES = st.lists(st.floats(min_value=1e-6, max_value=1e3), min_size=1, max_size=60)


def test_t_quantiles() -> None:
    assert t_quantile_95(1) == 12.706
    assert t_quantile_95(19) == 2.093
    assert t_quantile_95(40) == pytest.approx(2.021, abs=1e-3)
    assert t_quantile_95(120) == pytest.approx(1.980, abs=1e-3)
    assert all(t_quantile_95(n + 1) < t_quantile_95(n) for n in range(1, 60))
    with pytest.raises(ValueError, match="degrees"):
        t_quantile_95(0)


def test_mean_interval_by_hand() -> None:
    low, high = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0]) or (0.0, 0.0)
    half = 2.776 * math.sqrt(2.5) / math.sqrt(5)
    assert (low, high) == pytest.approx((3 - half, 3 + half))
    assert mean_interval([1.0]) is None


@pytest.mark.parametrize(("count", "rank"), [(6, 1), (8, 1), (9, 2), (12, 3), (20, 6), (30, 10)])
def test_median_interval_has_the_tabled_ranks(count: int, rank: int) -> None:
    samples = [float(n) for n in range(1, count + 1)]
    assert median_interval(samples[::-1]) == (rank, count + 1 - rank)


@given(TIMES)
def test_intervals_hold_their_centre(samples: list[float]) -> None:
    found = summarize(samples)
    assert found.count == len(samples)
    if found.median_interval_s is not None:
        assert found.median_interval_s[0] <= found.median_s <= found.median_interval_s[1]
    assert (found.median_interval_s is None) == (len(samples) < 6)
    if found.mean_interval_s is not None:
        low, high = found.mean_interval_s
        assert low <= found.mean_s <= high
    assert found.std_s == (statistics.stdev(samples) if len(samples) > 1 else 0.0)


@given(TIMES)
def test_never_stops_below_the_minimum(samples: list[float]) -> None:
    if is_precise(samples):
        assert len(samples) >= 5


def test_stops_once_precise() -> None:
    steady = [1.0, 1.001, 0.999, 1.0]
    assert not is_precise(steady)
    assert is_precise([*steady, 1.0])
    assert not is_precise([1.0, 1.1, 0.9, 1.0, 1.05])


def test_no_samples() -> None:
    with pytest.raises(ValueError, match="at least one"):
        summarize([])


@pytest.mark.parametrize(("field", "value"), [("warmup", -1), ("iterations", 0), ("timeout_s", 0.0)])
def test_settings_that_leave_nothing_to_measure(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Timing(**{field: value})  # type: ignore[arg-type]
