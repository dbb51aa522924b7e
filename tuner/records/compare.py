"""Two runs side by side: what changed beyond the noise, and what fits in one of them only.

Pure functions over records. A rate changed where the intervals of both do not touch. What was measured is
never held against what was predicted: of such a pair there is no change.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..values.record import Record
from .cells import Cell, best_of_cells, cell_of
from .frontier import Point, settle, to_points
from .ties import compare

# The two-sided 95 % quantile of Student's distribution for 1, 2, … degrees of freedom, then the normal one:
# of five samples an interval is wider than of fifty.
_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL_QUANTILE = 1.960


def rate_interval(point: Point) -> tuple[float, float] | None:
    """From and to which tokens/s a point's rate may be; None where that is not known.

    Of a measured one it holds the true rate with 95 %: the spread of its samples, and that one measurement
    differs from the next as a whole (`ties`). Of a predicted one it is the prediction's, which should hold
    nine of ten. Not known of a single sample, and of a measurement that was disturbed.
    """
    measurement = point.record.measurement
    if measurement.predicted is not None:
        return measurement.predicted.tokens_per_s_low, measurement.predicted.tokens_per_s_high
    samples = len(measurement.samples_s)
    if measurement.tainted or samples < 2 or point.tokens_per_s_std is None:
        return None
    freedom = samples - 1
    quantile = _QUANTILES[freedom - 1] if freedom <= len(_QUANTILES) else _NORMAL_QUANTILE
    of_samples = quantile * point.tokens_per_s_std / math.sqrt(samples)
    of_whole = _NORMAL_QUANTILE * compare([point]).errors[0] * point.tokens_per_s
    half = math.hypot(of_samples, of_whole)
    return point.tokens_per_s - half, point.tokens_per_s + half


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A point of each of two runs: of one candidate, or the best of one cell."""

    first: Point
    second: Point

    @property
    def is_alike(self) -> bool:
        """Both measured, or both predicted: nothing else is compared."""
        return is_predicted(self.first.record) == is_predicted(self.second.record)

    @property
    def change(self) -> float | None:
        """Of tokens/s, as a share of the first's; None where the two are not alike."""
        return self.second.tokens_per_s / self.first.tokens_per_s - 1 if self.is_alike else None

    @property
    def peak_change(self) -> float | None:
        """Of the peak, as a share of the first's; None where the two are not alike."""
        return self.second.peak_bytes / self.first.peak_bytes - 1 if self.is_alike else None

    @property
    def is_beyond(self) -> bool | None:
        """Whether tokens/s changed by more than both intervals together; None where that is not known."""
        one, other = rate_interval(self.first), rate_interval(self.second)
        if not self.is_alike or one is None or other is None:
            return None
        return one[1] < other[0] or other[1] < one[0]

    @property
    def size(self) -> float:
        """How large the change is, either way: the same for the runs in the other order."""
        return abs(math.log(self.second.tokens_per_s / self.first.tokens_per_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class CellPair:
    """The best of a cell in each run; None where nothing of it fits there, or was tried."""

    cell: Cell
    first: Point | None
    second: Point | None

    @property
    def pair(self) -> Pair | None:
        if self.first is None or self.second is None:
            return None
        return Pair(first=self.first, second=self.second)


@dataclass(frozen=True, kw_only=True, slots=True)
class OneSided:
    """What fits in one run, and the record of the same candidate in the other, where it does not."""

    point: Point
    fits_in_first: bool
    other: Record


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two runs compared.

    cells: those of either run, the largest models first. changed: candidates in both whose tokens/s changed
    beyond the noise, the largest change first. unchanged, unknown, unlike: how many others fit in both, by
    why they are not among them: within the noise, no interval is known, or one is predicted and the other
    measured. median_change: of tokens/s of all but the unlike, as a share; what moved every one of them a
    little shows here before it is beyond the noise of any; None where there are none. one_sided: what fits in
    one and not in the other, the fastest first. only_first, only_second: how many are in one run alone.
    """

    cells: tuple[CellPair, ...]
    changed: tuple[Pair, ...]
    unchanged: int
    unknown: int
    unlike: int
    median_change: float | None
    one_sided: tuple[OneSided, ...]
    only_first: int
    only_second: int


def is_predicted(record: Record) -> bool:
    """Whether its figures are predicted, so that nothing was measured."""
    return record.measurement.predicted is not None


def compare_runs(first: Iterable[Record], second: Iterable[Record]) -> Comparison:
    """Compare the records of two runs; the order of the records does not matter."""
    firsts, seconds = tuple(first), tuple(second)
    tried = [{record.digest: record for record in settle(records)} for records in (firsts, seconds)]
    points = [to_points(records) for records in (firsts, seconds)]
    fitting = [{point.record.digest: point for point in of_run} for of_run in points]
    pairs = [
        Pair(first=point, second=fitting[1][digest])
        for digest, point in fitting[0].items()
        if digest in fitting[1]
    ]
    changed = sorted(
        (pair for pair in pairs if pair.is_beyond), key=lambda pair: (-pair.size, pair.first.record.digest)
    )
    one_sided = [
        OneSided(point=point, fits_in_first=side == 0, other=tried[1 - side][digest])
        for side in (0, 1)
        for digest, point in fitting[side].items()
        if digest in tried[1 - side] and digest not in fitting[1 - side]
    ]
    alike = [pair for pair in pairs if pair.is_alike]
    return Comparison(
        cells=_cell_pairs(*points),
        changed=tuple(changed),
        unchanged=sum(pair.is_beyond is False for pair in alike),
        unknown=sum(pair.is_beyond is None for pair in alike),
        unlike=len(pairs) - len(alike),
        median_change=_median_change(alike),
        one_sided=tuple(
            sorted(one_sided, key=lambda found: (-found.point.tokens_per_s, found.point.record.digest))
        ),
        only_first=len(tried[0].keys() - tried[1].keys()),
        only_second=len(tried[1].keys() - tried[0].keys()),
    )


def _median_change(pairs: Sequence[Pair]) -> float | None:
    if not pairs:
        return None
    ratios = [math.log(pair.second.tokens_per_s / pair.first.tokens_per_s) for pair in pairs]
    return math.expm1(statistics.median(ratios))


def _cell_pairs(firsts: Sequence[Point], seconds: Sequence[Point]) -> tuple[CellPair, ...]:
    best, other_best = best_of_cells(firsts), best_of_cells(seconds)
    largest: dict[Cell, int] = {}
    for point in (*best.values(), *other_best.values()):
        cell = cell_of(point.candidate)
        largest[cell] = max(point.body_parameters, largest.get(cell, 0))
    # A cell's keys may be of different kinds in two workloads, so that only their texts can be put in order.
    ordered = sorted(
        largest,
        key=lambda cell: (cell.mode != "train", cell.workload, -largest[cell], cell.model, _order(cell)),
    )
    return tuple(CellPair(cell=cell, first=best.get(cell), second=other_best.get(cell)) for cell in ordered)


def _order(cell: Cell) -> tuple[tuple[float, str], ...]:
    return tuple((float(key), "") if isinstance(key, int | float) else (0.0, str(key)) for key in cell.keys)
