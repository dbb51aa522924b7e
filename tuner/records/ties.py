"""Which of a cell's fastest are worth another measurement, and which of them tie.

Measurements of the same candidate differ a little, each as a whole. So it is the attempts that are compared.
A choice is good where it is within the share that ties of the best, so that only what may be faster by more
than that is worth another measurement: such candidates are measured again, in turns with the fastest.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .frontier import Point

TIE = 0.005
"""Rates that differ by no more than that share tie."""
MOST_COMPARED = 3
"""So many of a cell's fastest are compared,"""
MOST_REPEATS = 3
"""and each is measured again so often at most."""
_SURE = 1.8
"""Standard errors: 96 of a hundred differences lie below so many. Of four batches whose rates differ by up to
3 %, the one chosen is then within the share that ties of the best in 98.9 of a hundred models, for 0.7
repeats each; where all were repeated that lie within each other's error, in 98.4 for 2.2, and without any in
97.2 (tests/tuner/test_ties.py, with 1,500 seeds)."""
_SPREAD, _SPREAD_WEIGHT = 0.003, 4
"""Standard deviation of a measurement as a share of it, as long as nothing is measured again: two of the same
training step differ by 0.28 % in the median (studies/results, 2026-11-26-h100-repeatability), which is 0.95
of it. It counts as much as so many degrees of freedom."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """The fastest points of a cell, the fastest first, with the standard error (a share of the rate)."""

    points: tuple[Point, ...]
    errors: tuple[float, ...]

    @property
    def unresolved(self) -> list[Point]:
        """Those that may be faster than the fastest by more than a tie; and the fastest, if there are any."""
        rivals = [p for place, p in enumerate(self.points) if place and self._may_be_better(place)]
        return [self.points[0], *rivals] if rivals else []

    @property
    def tied(self) -> list[Point]:
        """The fastest and those that tie with it, all of them measured again."""
        return [self.points[0], *(p for place, p in enumerate(self.points) if place and self._is_tie(place))]

    def _gap(self, place: int) -> float:
        return 1 - self.points[place].tokens_per_s / self.points[0].tokens_per_s

    def _error(self, place: int) -> float:
        """Of the gap."""
        return math.hypot(self.errors[0], self.errors[place])

    def _is_tie(self, place: int) -> bool:
        is_repeated = min(len(self.points[i].attempt_rates) for i in (0, place)) > 1
        return is_repeated and self._gap(place) + self._error(place) <= TIE

    def _may_be_better(self, place: int) -> bool:
        return _SURE * self._error(place) - self._gap(place) >= TIE and not self._is_tie(place)


def compare(points: Iterable[Point]) -> Compared:
    """Compare the fastest of a cell's measured points, of which there is at least one."""
    ordered = sorted(points, key=lambda p: (-p.tokens_per_s, p.peak_bytes, p.record.digest))
    fastest = tuple(ordered[:MOST_COMPARED])
    spread = _spread([point.attempt_rates for point in fastest])
    return Compared(
        points=fastest,
        errors=tuple(spread / math.sqrt(max(len(point.attempt_rates), 1)) for point in fastest),
    )


def _spread(rates: Sequence[Sequence[float]]) -> float:
    """Standard deviation of one attempt as a share of its rate, from all that were measured again."""
    squares, freedom = _SPREAD**2 * _SPREAD_WEIGHT, float(_SPREAD_WEIGHT)
    for of_point in rates:
        if len(of_point) > 1:
            squares += (len(of_point) - 1) * statistics.variance(of_point) / statistics.fmean(of_point) ** 2
            freedom += len(of_point) - 1
    return math.sqrt(squares / freedom)
