"""Tables of configurations, with columns for what varies among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tabulate import tabulate

from ..records.frontier import Point
from ..records.wording import length_word, model_axes, rate_unit, setting_axes
from ..values.axes import Axis
from ..values.candidate import Candidate
from ..values.record import Record
from ..values.sizes import format_mb
from .facts import describe_rate, format_parameters

Column = tuple[str, Callable[[Candidate], str]]
"""Heading, and the text of a candidate's value."""
BODY_PARAMETERS = "Without positions"
"""Heading of the parameters without the position table: what the frontier counts as a model's size."""


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "") -> str:
    """A Markdown table; `align` has a letter a column, r for numbers, and l for the rest."""
    letters = align.ljust(len(headers), "l")
    sides = ["right" if letter == "r" else "left" for letter in letters]
    return tabulate(list(rows), headers=headers, tablefmt="github", disable_numparse=True, colalign=sides)


def frontier_table(points: Sequence[Point]) -> tuple[list[str], list[list[str]], str]:
    """Headers, rows and alignment (a letter a column) of a frontier, for Markdown or for a terminal."""
    candidates = [p.candidate for p in points]
    columns = varying_columns(p.record for p in points)
    modes = {p.candidate.mode for p in points}
    length = length_word(candidates)
    shape = f"Batch×{length}" if length else "Batch"
    headers = ["Model", "Parameters", BODY_PARAMETERS, shape, *(name for name, _ in columns)]
    rows = [
        [
            p.candidate.model,
            format_parameters(p.parameters),
            format_parameters(p.body_parameters),
            p.candidate.shape,
            *(value(p.candidate) for _, value in columns),
            *([p.candidate.mode] if len(modes) > 1 else []),
            describe_rate(p.record) or "-",
            format_mb(p.peak_bytes),
        ]
        for p in points
    ]
    rate = rate_unit(candidates).capitalize()
    headers += [*(["Mode"] if len(modes) > 1 else []), rate, "Peak memory (MB)"]
    align = "lrrr" + "l" * (len(headers) - 6) + "rr"
    return headers, rows, align


def shared_settings(records: Sequence[Record], device_kind: str) -> str:
    """The settings that all records share, so that their table needs no column for them."""
    candidates = [record.to_candidate() for record in records]
    varying = {name for name, _ in varying_columns(records)}
    first = candidates[0]
    said = [
        f"{name.lower()} {value(first)}"
        for axis, (name, value) in _columns(candidates)
        if name not in varying and axis.name in first.axes and not _is_usual(axis, first)
    ]
    return ", ".join([f"device: {device_kind}", *said])


def varying_columns(records: Iterable[Record]) -> list[Column]:
    """The columns whose values differ among the records."""
    candidates = [r.to_candidate() for r in records]
    columns = [column for _, column in _columns(candidates)]
    if len({candidate.workload for candidate in candidates}) > 1:
        columns.insert(0, ("Workload", lambda c: c.spec.title))
    return [column for column in columns if len({column[1](c) for c in candidates}) > 1]


def _columns(candidates: Sequence[Candidate]) -> list[tuple[Axis, Column]]:
    """What may vary within one model and sequence."""
    return [
        (axis, (axis.heading, _shower(axis))) for axis in (*model_axes(candidates), *setting_axes(candidates))
    ]


def _shower(axis: Axis) -> Callable[[Candidate], str]:
    """The text of a value; empty of a workload without the axis."""
    return lambda candidate: axis.show(candidate.axes[axis.name]) if axis.name in candidate.axes else ""


def _is_usual(axis: Axis, candidate: Candidate) -> bool:
    """Whether it is as it was before there was the axis, which goes without saying."""
    return axis.is_later and candidate.axes[axis.name] == axis.default
