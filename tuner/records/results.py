"""What a run's records come to, each step made once: settled, points, the frontier, the recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ..values.record import Record
from .frontier import Point, find_frontier, settle, to_points
from .recommend import recommend


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """All that reports, recommendations and the terminal show of a run's records.

    records: every attempt, in the order they were made; settled: the one that counts of each candidate;
    points: those of them that fit; frontier: the points that no other dominates; recommended: the best of
    each model.
    """

    records: tuple[Record, ...]
    settled: tuple[Record, ...]
    points: tuple[Point, ...]
    frontier: tuple[Point, ...]
    recommended: tuple[Point, ...]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Self:
        """The results of a run's records, whose order does not matter but in `records`."""
        settled = tuple(settle(records))
        points = tuple(to_points(records))
        return cls(
            records=tuple(records),
            settled=settled,
            points=points,
            frontier=tuple(find_frontier(points)),
            recommended=tuple(recommend(points)),
        )
