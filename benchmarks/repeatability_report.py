"""The repeatability benchmark in figures: how far two measurements of one configuration are apart."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from tabulate import tabulate

from ..tuner.values.candidate import Candidate
from ..tuner.values.measurement import Measurement
from ..tuner.values.outcome import Outcome
from ..tuner.values.sizes import MIB, format_budget

RATE_GOAL, PEAK_GOAL = 0.03, 0.005  # of the mean of both


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One configuration, measured twice by fresh processes."""

    candidate: Candidate
    first: Measurement
    second: Measurement
    seconds: float

    @property
    def is_measured(self) -> bool:
        """Whether both ended well; else there is nothing to compare."""
        return self.first.outcome is Outcome.OK and self.second.outcome is Outcome.OK

    def rates(self) -> tuple[float, float]:
        """Mean tokens/s of both."""
        tokens = self.candidate.items_per_step
        return self.first.tokens_per_s(tokens)[0], self.second.tokens_per_s(tokens)[0]

    def peaks(self) -> tuple[int, int]:
        """Peak bytes of both.

        Raises: ValueError where one has none.
        """
        if self.first.peak_bytes is None or self.second.peak_bytes is None:
            raise ValueError(f"{self.candidate.describe()}: expected two peaks, got none")
        return self.first.peak_bytes, self.second.peak_bytes

    def rate_difference(self) -> float:
        return _difference(*self.rates())

    def peak_difference(self) -> float:
        return _difference(*self.peaks())

    def sentence(self) -> str:
        if not self.is_measured:
            return f"{self.candidate.describe()}: {self.first.outcome}, {self.second.outcome}"
        return (
            f"{self.candidate.describe()}: tokens/s {self.rate_difference():.2%} apart, peak memory "
            f"{self.peak_difference():.3%} ({self.seconds:.0f} s)"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "candidate": self.candidate.to_dict(),
            "seconds": self.seconds,
            "first": self.first.model_dump(mode="json"),
            "second": self.second.model_dump(mode="json"),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(
            candidate=Candidate.from_dict(data["candidate"]),
            seconds=data["seconds"],
            first=Measurement.model_validate_json(json.dumps(data["first"])),
            second=Measurement.model_validate_json(json.dumps(data["second"])),
        )


def _difference(a: float, b: float) -> float:
    return abs(a - b) / ((a + b) / 2)


def summary_of(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The differences of all pairs that were measured, as shares; None where there is none."""
    measured = [pair for pair in pairs if pair.is_measured]
    rates = [pair.rate_difference() for pair in measured]
    peaks = [pair.peak_difference() for pair in measured]
    return {
        "configurations": len(pairs),
        "measured_twice": len(measured),
        "tainted": sum(bool(pair.first.tainted or pair.second.tainted) for pair in measured),
        "tokens_per_s_difference_median": statistics.median(rates) if rates else None,
        "tokens_per_s_difference_max": max(rates, default=None),
        "tokens_per_s_within_goal": sum(rate < RATE_GOAL for rate in rates),
        "peak_bytes_difference_median": statistics.median(peaks) if peaks else None,
        "peak_bytes_difference_max": max(peaks, default=None),
        "peak_bytes_within_goal": sum(peak < PEAK_GOAL for peak in peaks),
    }


def report_of(pairs: Sequence[Pair], gpu: str, budget_bytes: int) -> str:
    """A line a configuration, and what the lines say."""
    summary = summary_of(pairs)
    count = summary["measured_twice"]
    rows = [_row(pair) for pair in pairs]
    headers = ("configuration", "tokens/s", "again", "apart", "peak MB", "again", "apart", "samples", "note")
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    versions = sorted({pair.candidate.kernel_version for pair in pairs})
    rate_line = (
        f"tokens/s differ by less than {RATE_GOAL:.0%} in {summary['tokens_per_s_within_goal']} of {count}"
        f"{_most(summary['tokens_per_s_difference_max'], 2)}"
    )
    peak_line = (
        f"the peak of the whole process by less than {PEAK_GOAL:.1%} in "
        f"{summary['peak_bytes_within_goal']} of {count}{_most(summary['peak_bytes_difference_max'], 3)}"
    )
    return (
        f"# {count} configurations measured twice by fresh processes: {gpu}, budget "
        f"{format_budget(budget_bytes)}\n\n{table}\n\n"
        "MB are 2^20 bytes; apart is the difference as a share of the mean of both. Where both were "
        f"measured, {rate_line}, {peak_line}.\n\n"
        "What it does not show: other GPUs, a GPU that others use or that runs hot, kernel versions other "
        f"than {', '.join(versions) or 'these'}.\n"
    )


def _most(value: float | None, digits: int) -> str:
    return "" if value is None else f" (at most {value:.{digits}%})"


def _row(pair: Pair) -> tuple[str, ...]:
    name = pair.candidate.describe()
    if not pair.is_measured:
        return (name, *("–",) * 7, f"{pair.first.outcome}, {pair.second.outcome}")
    (first, second), (peak, again) = pair.rates(), pair.peaks()
    tainted = pair.first.tainted + pair.second.tainted
    return (
        name,
        f"{first:,.0f}",
        f"{second:,.0f}",
        f"{pair.rate_difference():.2%}",
        f"{peak / MIB:,.2f}",
        f"{again / MIB:,.2f}",
        f"{pair.peak_difference():.3%}",
        f"{len(pair.first.samples_s)}, {len(pair.second.samples_s)}",
        "; ".join(tainted),
    )
