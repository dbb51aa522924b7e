"""Models that differ in one word only, such as Phase 7 and Phase 8, side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..html.facts import Section
from ..records.cells import Cell, cell_of
from ..records.frontier import Point
from ..records.wording import model_axes, model_order, rate_unit
from ..values.axes import Axis, AxisValue
from ..values.candidate import Candidate
from ..values.sizes import format_mb
from .facts import describe_rate
from .findings import comparison_findings


def variant_sections(points: Sequence[Point]) -> Iterator[Section]:
    """For each word by which models are compared a table of equal configurations, and what they come to."""
    for axis in model_axes(point.candidate for point in points):
        if axis.plain is None:
            continue
        values = [axis.plain, *(value for value in axis.values if value != axis.plain)]
        names = [_name(str(value)) for value in values]
        rows = _table(points, axis, values, names)
        yield Section(
            title=" and ".join(names),
            lines=tuple(comparison_findings(points, axis)) if rows else (),
            rows=rows,
            align="ll" + "r" * (2 * len(names)),
        )


def _table(
    points: Sequence[Point], axis: Axis, values: Sequence[AxisValue], names: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Of each cell the largest batch of which every value was measured, all else equal."""
    groups: dict[Candidate, dict[AxisValue, Point]] = {}
    for point in points:
        if axis.name in point.candidate.axes:
            same = point.candidate.changed(**{axis.name: values[-1]})
            groups.setdefault(same, {})[point.candidate.axes[axis.name]] = point
    largest: dict[Cell, Candidate] = {}
    for candidate in sorted(groups, key=lambda candidate: candidate.batch_size):
        if all(value in groups[candidate] for value in values):
            largest[cell_of(candidate)] = candidate
    unit = rate_unit(largest.values()).capitalize() if largest else ""
    heads = [f"{what} {name}" for what in (unit, "Peak (MB)") for name in names]
    rows = [
        _row([groups[candidate][value] for value in values])
        for candidate in sorted(largest.values(), key=_order)
    ]
    return (("Model", "Configuration", *heads), *rows) if rows else ()


def _row(found: Sequence[Point]) -> tuple[str, ...]:
    candidate = found[-1].candidate
    words = candidate.describe().partition(f"{candidate.shape} ")[2]
    rates = [describe_rate(point.record) or "-" for point in found]
    peaks = [format_mb(point.peak_bytes) for point in found]
    return candidate.model, f"{candidate.shape} {words}", *rates, *peaks


def _order(candidate: Candidate) -> tuple[object, ...]:
    return candidate.mode != "train", model_order(candidate.workload, candidate.model), candidate.length


def _name(value: str) -> str:
    """`phase7` as people write it: `Phase 7`."""
    return re.sub(r"(?<=[a-z])(?=\d)", " ", value).capitalize()
