"""Where an optimizer with a small state won, and what it gained: sentences computed from the records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ..records.cells import Cell, cell_of
from ..records.frontier import Point
from ..records.wording import model_order, namer, rate_of, settings_of
from ..values.candidate import Candidate
from .facts import describe_rate


def savings_findings(points: Sequence[Point]) -> list[str]:
    """Of each mode and model with a small state its fastest against the fastest without, cell by cell."""
    cells: dict[Cell, list[Point]] = defaultdict(list)
    for point in points:
        cells[cell_of(point.candidate)].append(point)
    name = namer(point.candidate for point in points)
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    ordered = sorted(cells.values(), key=lambda group: _order(group[0].candidate))
    for group in ordered:
        small = [point for point in group if point.candidate.has_own_optimizer]
        if small:
            others = [point for point in group if not point.candidate.has_own_optimizer]
            candidate = group[0].candidate
            found[name(candidate), candidate.mode].append(_told(_fastest(small), others))
    return [f"**{model}, {mode}**: {'; '.join(told)}" for (model, mode), told in found.items()]


def _told(small: Point, others: Sequence[Point]) -> str:
    how, rate = settings_of(small.candidate), f"{describe_rate(small.record)} {rate_of(small)}"
    if not others:
        return f"{rate} with {how}, where nothing else that was tried fits"
    gain = small.tokens_per_s / _fastest(others).tokens_per_s - 1
    if gain <= 0:
        return f"{-gain:.1%} slower than the fastest without with {how}"
    return f"{rate} with {how}, {gain:.1%} faster than the fastest without"


def _fastest(points: Sequence[Point]) -> Point:
    return max(points, key=lambda point: point.tokens_per_s)


def _order(candidate: Candidate) -> tuple[object, ...]:
    return candidate.mode != "train", model_order(candidate.workload, candidate.model), candidate.length
