"""The fastest and the frontier of each cell: of those that compute the same, at one model and sequence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeVar

from ..values.axes import AxisValue
from ..values.candidate import Candidate
from .frontier import Point, find_frontier
from .ties import TIE, compare


class Cell(NamedTuple):
    """What throughput is compared within only.

    model: its words. keys: the values on the other axes by which the workload's cells are told apart, such as
    the sequence.
    """

    workload: str
    mode: str
    model: tuple[str, ...]
    keys: tuple[AxisValue, ...]


def cell_of(candidate: Candidate) -> Cell:
    """The cell of a candidate."""
    keys = tuple(candidate.axes[axis.name] for axis in candidate.spec.axes if axis.is_cell_key)
    return Cell(candidate.workload, candidate.mode, candidate.model_words, keys)


class Rated(Protocol):
    """A candidate with a rate, measured or predicted."""

    @property
    def candidate(self) -> Candidate: ...

    @property
    def tokens_per_s(self) -> float: ...


R = TypeVar("R", bound=Rated)


def best_of_cells(points: Iterable[R]) -> dict[Cell, R]:
    """The point with the most tokens/s of each cell, the first of equals; cells in the order they come."""
    best: dict[Cell, R] = {}
    for point in points:
        cell = cell_of(point.candidate)
        if cell not in best or point.tokens_per_s > best[cell].tokens_per_s:
            best[cell] = point
    return best


def frontier_of_cells(points: Iterable[Point]) -> list[Point]:
    """Of each cell the points that no other of it beats in tokens/s and peak bytes: larger models first, then
    shorter sequences, then by throughput. The order of `points` does not matter."""
    cells: dict[Cell, list[Point]] = {}
    for point in points:
        cells.setdefault(cell_of(point.candidate), []).append(point)
    fronts = [(cell, find_frontier(of_cell)) for cell, of_cell in cells.items()]
    fronts.sort(key=lambda item: (item[0][1], -item[1][0].body_parameters, item[0]))
    return [point for _, front in fronts for point in front]


def tied_with(best: Point, points: Iterable[Point]) -> list[Point]:
    """The fastest point of a cell and those of `points` that tie with it."""
    return compare(p for p in points if cell_of(p.candidate) == cell_of(best.candidate)).tied


def describe_ties(points: Iterable[Point]) -> list[str]:
    """A sentence for each cell whose fastest tie."""
    every = list(points)
    told = []
    for best in best_of_cells(every).values():
        tied = tied_with(best, every)
        if len(tied) > 1:
            names = ", ".join(point.candidate.describe() for point in tied)
            least = min(tied, key=lambda point: point.peak_bytes)
            told.append(
                f"Tied within {TIE:.1%}, each measured {len(best.attempt_rates)} times: {names}; the least "
                f"memory takes {least.candidate.describe()}".replace("%", " %")
            )
    return told
