"""Hypervolume: how much of the objective space a set of measured points dominates."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from ..values.candidate import Mode
from .frontier import Point

Box = tuple[float, float, float]
"""Of a point: its tokens/s, the bytes that it leaves free, its body parameters; from 0 in all three."""


def hypervolume(points: Iterable[Point], budget_bytes: int) -> float:
    """Volume dominated by the points, from 0 tokens/s, a peak at the budget and 0 body parameters.

    In tokens/s × bytes below the budget × body parameters; only its growth has a meaning. Modes do different
    work and are added up apart.
    """
    ordered = sorted(points, key=lambda p: p.candidate.mode)
    return sum(
        _volume([_box(point, budget_bytes) for point in group])
        for _, group in itertools.groupby(ordered, key=lambda p: p.candidate.mode)
    )


class GrowingHypervolume:
    """The hypervolume of points that are added one by one; a dominated one costs next to nothing."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._fronts: dict[Mode, list[Box]] = {}
        self.volume = 0.0
        """As `hypervolume` of all points so far."""

    def copy(self) -> GrowingHypervolume:
        """Another one that grows apart from here on."""
        found = GrowingHypervolume(self._budget_bytes)
        found._fronts = {mode: list(front) for mode, front in self._fronts.items()}
        found.volume = self.volume
        return found

    def add(self, point: Point) -> None:
        """Take in one more point."""
        self.add_box(point.candidate.mode, _box(point, self._budget_bytes))

    def add_box(self, mode: Mode, box: Box) -> None:
        """Take in one more point, given as its box."""
        front = self._fronts.setdefault(mode, [])
        if _is_held(box, front):
            return
        self.volume += _growth(front, box)
        x, y, z = box
        front[:] = [box, *(each for each in front if not (x >= each[0] and y >= each[1] and z >= each[2]))]

    def growth(self, mode: Mode, box: Box) -> float:
        """What `add_box` would add to the volume; 0 where a point holds the box already."""
        front = self._fronts.get(mode, ())
        return 0.0 if _is_held(box, front) else _growth(front, box)


def _growth(front: Sequence[Box], new: Box) -> float:
    return _volume([new]) - _volume(_undominated({_common(new, other) for other in front}))


def to_box(tokens_per_s: float, peak_bytes: int, body_parameters: int, budget_bytes: int) -> Box:
    """The box of a point that is measured, or expected."""
    return tokens_per_s, float(budget_bytes - peak_bytes), float(body_parameters)


def _box(point: Point, budget_bytes: int) -> Box:
    return to_box(point.tokens_per_s, point.peak_bytes, point.body_parameters, budget_bytes)


def _is_held(box: Box, front: Iterable[Box]) -> bool:
    """Whether one of a front is at least as large everywhere. Written out: it is asked a thousand times for a
    candidate."""
    x, y, z = box
    return any(a >= x and b >= y and c >= z for a, b, c in front)


def _common(one: Box, other: Box) -> Box:
    return min(one[0], other[0]), min(one[1], other[1]), min(one[2], other[2])


def _undominated(boxes: Iterable[Box]) -> list[Box]:
    """Different boxes without those that another one holds."""
    front: list[Box] = []
    for box in sorted(boxes, reverse=True):  # whoever holds a box comes before it
        if not _is_held(box, front):
            front.append(box)
    return front


def _volume(boxes: list[Box]) -> float:
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
