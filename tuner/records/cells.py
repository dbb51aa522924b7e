"""The fastest of each cell: of those that compute the same, at one model and sequence."""

from __future__ import annotations

from collections.abc import Iterable

from ..values.candidate import Candidate
from .frontier import Point

Cell = tuple[str, str, tuple[str, ...], int]
"""Workload, mode, the words of a model, sequence: throughput is compared within these only."""


def cell_of(candidate: Candidate) -> Cell:
    """The cell of a candidate."""
    return candidate.workload, candidate.mode, candidate.model_words, candidate.n_seq


def best_of_cells(points: Iterable[Point]) -> dict[Cell, Point]:
    """The point with the most tokens/s of each cell, the first of equals; cells in the order they come."""
    best: dict[Cell, Point] = {}
    for point in points:
        cell = cell_of(point.candidate)
        if cell not in best or point.tokens_per_s > best[cell].tokens_per_s:
            best[cell] = point
    return best
