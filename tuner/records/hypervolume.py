"""Hypervolume: how much of the objective space a set of measured points dominates."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from .frontier import Point


def hypervolume(points: Iterable[Point], budget_bytes: int) -> float:
    """Volume dominated by the points, from 0 tokens/s, a peak at the budget and 0 parameters.

    In tokens/s × bytes below the budget × parameters; only its growth has a meaning. Modes do different work
    and are added up apart.
    """
    ordered = sorted(points, key=lambda p: p.candidate.mode)
    return sum(
        _volume([(p.tokens_per_s, float(budget_bytes - p.peak_bytes), float(p.parameters)) for p in group])
        for _, group in itertools.groupby(ordered, key=lambda p: p.candidate.mode)
    )


def _volume(boxes: list[tuple[float, float, float]]) -> float:
    """Volume of the union of boxes [0, x] × [0, y] × [0, z], in slices along z."""
    heights = sorted({z for _, _, z in boxes if z > 0}, reverse=True)
    return sum(
        (top - bottom) * _area([(x, y) for x, y, z in boxes if z >= top])
        for top, bottom in itertools.pairwise([*heights, 0.0])
    )


def _area(rectangles: list[tuple[float, float]]) -> float:
    """Area of the union of rectangles [0, x] × [0, y]."""
    area = covered_y = 0.0
    for x, y in sorted(rectangles, reverse=True):
        if y > covered_y:
            area += x * (y - covered_y)
            covered_y = y
    return area
