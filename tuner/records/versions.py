"""Kernel versions side by side: what each reached where several were measured, and which of them lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..values.candidate import Candidate
from .cells import Cell, cell_of
from .frontier import Point

_LOSSES = 3
"""A version that lost in cells of so many models is not tried where nothing else asks for it."""
_LOST = 0.95
"""A version has lost a cell where its best is less than this share of the cell's best: measurements repeat
within 2 % (studies/results, 2026-11-26-h100-repeatability)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SideBySide:
    """A cell in which several kernel versions were measured: the best point of each, the fastest first."""

    cell: Cell
    best: tuple[Point, ...]

    def share(self, point: Point) -> float:
        """Of the tokens/s of the cell's best, those of a point."""
        return point.tokens_per_s / self.best[0].tokens_per_s


def side_by_side(points: Iterable[Point]) -> list[SideBySide]:
    """Of every mode and model the cell in which most kernel versions were measured, of several the fastest;
    none where only one version was. In the order in which the models come."""
    found: dict[tuple[object, ...], SideBySide] = {}
    for cell, best in _best_of_versions(points).items():
        ordered = tuple(sorted(best.values(), key=lambda p: (-p.tokens_per_s, p.candidate.version)))
        here, model = SideBySide(cell=cell, best=ordered), cell[:3]
        if len(ordered) > 1 and (model not in found or _worth(here) > _worth(found[model])):
            found[model] = here
    return list(found.values())


def lost_versions(points: Iterable[Point]) -> dict[str, dict[str, float]]:
    """Kernel versions that lost wherever they were measured: by model, their largest share of a
    cell's best."""
    return _lost(_best_of_versions(points))


class LostVersions:
    """`lost_versions` of points that come one by one: of each cell it looks only at its versions' best."""

    def __init__(self) -> None:
        self._points: dict[tuple[Cell, str], dict[Candidate, Point]] = {}  # by cell and version
        self._best: dict[Cell, dict[str, Point]] = {}

    def take(self, point: Point) -> None:
        """Take in one more point, or one anew that was measured again."""
        cell, version = cell_of(point.candidate), point.candidate.version
        points = self._points.setdefault((cell, version), {})
        points[point.candidate] = point
        of_cell = self._best.setdefault(cell, {})
        best = of_cell.get(version)
        if best is not None and best.candidate == point.candidate:  # it may be slower than it was
            of_cell[version] = max(points.values(), key=lambda p: p.tokens_per_s)
        elif best is None or point.tokens_per_s > best.tokens_per_s:
            of_cell[version] = point

    def now(self) -> dict[str, dict[str, float]]:
        """As `lost_versions` of all points so far."""
        return _lost(self._best)


def _lost(best_of_versions: Mapping[Cell, Mapping[str, Point]]) -> dict[str, dict[str, float]]:
    shares: dict[str, dict[str, float]] = {}
    for best in best_of_versions.values():
        fastest = max(point.tokens_per_s for point in best.values())
        for version, point in best.items():
            of_version, model = shares.setdefault(version, {}), point.candidate.model
            of_version[model] = max(point.tokens_per_s / fastest, of_version.get(model, 0.0))
    return {
        version: dict(sorted(by_model.items()))
        for version, by_model in shares.items()
        if len(by_model) >= _LOSSES and max(by_model.values()) < _LOST
    }


def _best_of_versions(points: Iterable[Point]) -> Mapping[Cell, Mapping[str, Point]]:
    found: dict[Cell, dict[str, Point]] = {}
    for point in points:
        best, version = found.setdefault(cell_of(point.candidate), {}), point.candidate.version
        if version not in best or point.tokens_per_s > best[version].tokens_per_s:
            best[version] = point
    return found


def _worth(found: SideBySide) -> tuple[int, float]:
    return len(found.best), found.best[0].tokens_per_s
