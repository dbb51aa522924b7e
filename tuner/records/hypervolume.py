"""Hypervolume: how much of the objective space a set of measured points dominates."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from ..values.candidate import Mode
from .frontier import Point

Box = tuple[float, float, float]
"""Of a point: its tokens/s, the bytes that it leaves free, its body parameters; from 0 in all three."""


def to_box(tokens_per_s: float, peak_bytes: int, body_parameters: int, budget_bytes: int) -> Box:
    """The box of a point that is measured, or expected."""
    return tokens_per_s, float(budget_bytes - peak_bytes), float(body_parameters)


def hypervolume(points: Iterable[Point], budget_bytes: int) -> float:
    """Volume dominated by the points, from 0 tokens/s, a peak at the budget and 0 body parameters.

    In tokens/s × bytes below the budget × body parameters; only its growth has a meaning. Modes do different
    work and are added up apart.
    """
    growing = GrowingHypervolume(budget_bytes)
    for point in points:
        growing.add(point)
    return growing.volume


class GrowingHypervolume:
    """The hypervolume of points that are added one by one.

    What a point adds takes a search in sorted lists, one for every size of model: a study has a handful of
    these, however many points.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._unions: dict[Mode, _Union] = {}
        self.volume = 0.0
        """As `hypervolume` of all points so far."""

    def copy(self) -> GrowingHypervolume:
        """Another one that grows apart from here on."""
        found = GrowingHypervolume(self._budget_bytes)
        found._unions = {mode: union.copy() for mode, union in self._unions.items()}
        found.volume = self.volume
        return found

    def add(self, point: Point) -> None:
        """Take in one more point."""
        box = to_box(point.tokens_per_s, point.peak_bytes, point.body_parameters, self._budget_bytes)
        self.add_box(point.candidate.mode, box)

    def add_box(self, mode: Mode, box: Box) -> None:
        """Take in one more point, given as its box."""
        self.volume += self._union(mode).add(box)

    def growth(self, mode: Mode, box: Box) -> float:
        """What `add_box` would add to the volume; 0 where a point holds the box already."""
        return self._union(mode).growth(box)

    def _union(self, mode: Mode) -> _Union:
        return self._unions.setdefault(mode, _Union())


class _Union:
    """A union of boxes [0, x] × [0, y] × [0, z], as slabs between the heights z that there are.

    `_heights` ascend; the cross-section below the i-th, down to the one before, is `_sections[i]`.
    """

    def __init__(self) -> None:
        self._heights: list[float] = []
        self._sections: list[_Section] = []

    def copy(self) -> _Union:
        found = _Union()
        found._heights = list(self._heights)
        found._sections = [section.copy() for section in self._sections]
        return found

    def growth(self, box: Box) -> float:
        """Volume of a box beyond the union."""
        x, y, z = box
        if min(box) <= 0:
            return 0.0
        added, bottom = 0.0, 0.0
        for top, section in zip(self._heights, self._sections, strict=True):
            if bottom >= z:
                return added
            added += (min(top, z) - bottom) * section.growth(x, y)
            bottom = top
        return added + max(z - bottom, 0.0) * x * y

    def add(self, box: Box) -> float:
        """Take in a box; the volume that it adds."""
        x, y, z = box
        if min(box) <= 0:
            return 0.0
        added, count = self.growth(box), bisect_left(self._heights, z)
        if count == len(self._heights) or self._heights[count] != z:
            above = self._sections[count].copy() if count < len(self._sections) else _Section()
            self._heights.insert(count, z)
            self._sections.insert(count, above)
        for section in self._sections[: count + 1]:
            section.add(x, y)
        return added


class _Section:
    """A union of rectangles [0, x] × [0, y]: those that no other holds, x ascending and y descending."""

    __slots__ = ("_lows", "_xs")

    def __init__(self) -> None:
        self._xs: list[float] = []
        self._lows: list[float] = []  # −y, which ascends too

    def copy(self) -> _Section:
        found = _Section()
        found._xs, found._lows = list(self._xs), list(self._lows)
        return found

    def growth(self, x: float, y: float) -> float:
        """Area of a rectangle beyond the union."""
        xs, lows = self._xs, self._lows
        place = bisect_right(lows, -y)  # from here on the union is lower than the rectangle
        start = xs[place - 1] if place else 0.0
        added = 0.0
        while start < x:
            if place == len(xs):
                return added + (x - start) * y
            end = min(xs[place], x)
            added += (end - start) * (y + lows[place])
            start, place = end, place + 1
        return added

    def add(self, x: float, y: float) -> None:
        """Take in a rectangle; those that it holds go."""
        xs, lows = self._xs, self._lows
        further = bisect_left(xs, x)
        if further < len(xs) and -lows[further] >= y:
            return
        first, end = bisect_left(lows, -y), bisect_right(xs, x)
        xs[first:end], lows[first:end] = [x], [-y]
