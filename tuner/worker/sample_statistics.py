"""Statistics of timed samples, as pure functions. Times in seconds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..values.timing import MINIMUM_SAMPLES

PRECISE_ENOUGH = 0.01  # half width of the mean's 95 % interval over the mean

# Student's t, two-sided 95 %, for 1 … 30 degrees of freedom; beyond, the expansion below is right to 0.001.
_T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimingSummary:
    """Location and spread of the samples. Intervals are two-sided 95 %; None with too few samples for one."""

    count: int
    mean_s: float
    std_s: float  # sample standard deviation, 0 for one sample
    median_s: float
    mean_interval_s: tuple[float, float] | None  # Student's t, from 2 samples
    median_interval_s: tuple[float, float] | None  # order statistics, from 6 samples


def t_quantile_95(degrees: int) -> float:
    """Two-sided 95 % quantile of Student's t.

    Raises: ValueError for less than one degree of freedom.
    """
    if degrees < 1:
        raise ValueError(f"degrees: expected 1 or more, got {degrees}")
    if degrees <= len(_T_95):
        return _T_95[degrees - 1]
    z = 1.959964  # Cornish-Fisher: t = z + (z³ + z)/4ν + (5z⁵ + 16z³ + 3z)/96ν²
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def mean_interval(samples_s: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean by Student's t, None for fewer than 2 samples."""
    if len(samples_s) < 2:
        return None
    mean = statistics.fmean(samples_s)
    half = t_quantile_95(len(samples_s) - 1) * statistics.stdev(samples_s) / math.sqrt(len(samples_s))
    return mean - half, mean + half


def median_interval(samples_s: Sequence[float]) -> tuple[float, float] | None:
    """Interval of the median between two order statistics, coverage ≥ 95 %; None for fewer than 6 samples.

    Assumes nothing of the samples' distribution: the number below the median is binomial(n, ½). With 5
    samples even the range covers only 93.75 %.
    """
    n = len(samples_s)
    tail, k = 0.0, 0
    while True:
        tail += math.comb(n, k) / 2**n
        if tail > 0.025:
            break
        k += 1
    if k == 0:
        return None
    ordered = sorted(samples_s)
    return ordered[k - 1], ordered[n - k]


def summarize(samples_s: Sequence[float]) -> TimingSummary:
    """Raises: ValueError where there are no samples."""
    if not samples_s:
        raise ValueError("samples_s: expected at least one sample, got none")
    return TimingSummary(
        count=len(samples_s),
        mean_s=statistics.fmean(samples_s),
        std_s=statistics.stdev(samples_s) if len(samples_s) > 1 else 0.0,
        median_s=statistics.median(samples_s),
        mean_interval_s=mean_interval(samples_s),
        median_interval_s=median_interval(samples_s),
    )


def is_precise(samples_s: Sequence[float]) -> bool:
    """Whether timing may stop: enough samples, and the mean is known to `PRECISE_ENOUGH` of itself."""
    if len(samples_s) < MINIMUM_SAMPLES:
        return False
    interval = mean_interval(samples_s)
    if interval is None:
        return False
    low, high = interval
    return (high - low) / 2 <= PRECISE_ENOUGH * statistics.fmean(samples_s)
