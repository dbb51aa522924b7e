"""Two runs compared, for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..records.compare import Comparison, Pair, compare_runs, is_predicted, rate_interval
from ..records.frontier import Point
from ..values.terminal import fill
from .comparison_tables import (
    BEST,
    PEAKS,
    PREDICTED,
    ComparedRun,
    cells_table,
    changed_table,
    count_lines,
    environments_table,
    has_predicted,
    one_sided_table,
    unit_of,
)
from .fitted_table import SPREAD, fit_table

SHOWN = 20
"""Rows of a table of configurations, as long as not all are asked for."""


def render_comparison(
    first: ComparedRun, second: ComparedRun, *, shows_all: bool, json_command: str, width: int | None
) -> str:
    """The environments, the best of each cell, what changed beyond the noise, what fits in one run only.

    shows_all: every configuration, not only the first of them. json_command: shows all that is left out.
    width: columns of the terminal; None: no limit.
    """
    found = compare_runs(first.records, second.records)
    most = None if shows_all else SHOWN

    def table(made: tuple[Sequence[str], Sequence[Sequence[str]], str], *order: str) -> str:
        headers, rows, align = made
        return fit_table(headers, rows, align=align, width=width, order=order, shows_all=json_command)

    parts = [fill(f"A: {first.name}\nB: {second.name}", width)]
    parts.append(_environments(first, second, width))
    unit = unit_of(found)
    left_out = (PEAKS[2], f"{unit} A{SPREAD}", f"{unit} B{SPREAD}", *PEAKS[:2])
    if found.cells:
        head = f"The best of each cell. Change: of {unit.lower()}, B against A. 1 MB = 2^20 bytes."
        parts += [fill(head, width), table(cells_table(found), *left_out[:3], *BEST, *PEAKS[:2])]
    parts.append(fill("\n".join(_counts(found, most)), width))
    if found.changed:
        parts.append(table(changed_table(found, most), *left_out))
    if found.one_sided:
        parts.append(fill(f"Fit in one run and not in the other{_first_of(found.one_sided, most)}:", width))
        parts.append(table(one_sided_table(found, most)))
    if has_predicted(first, second):
        parts.append(fill(PREDICTED, width))
    return "\n\n".join(parts) + "\n"


def _counts(found: Comparison, most: int | None) -> list[str]:
    lines = count_lines(found)
    if found.changed:
        lines.append(f"Changed by more than both intervals together{_first_of(found.changed, most)}:")
    return lines


def _first_of(items: Sequence[object], most: int | None) -> str:
    return "" if most is None or len(items) <= most else f" (the first {most} of {len(items):,}; --all)"


def _environments(first: ComparedRun, second: ComparedRun, width: int | None) -> str:
    """Both environments as a table; a line for each of their facts where that is too wide."""
    headers, rows, align = environments_table(first, second)
    table = fit_table(headers, rows, align=align, width=None, order=(), shows_all="")
    if width is None or max(map(len, table.split("\n"))) <= width:
        return table
    lines = (f"{name}: {a}" if a == b else f"{name}: A {a}; B {b}" for name, a, b, _ in rows)
    return fill("\n".join(lines), width)


def comparison_to_dict(first: ComparedRun, second: ComparedRun) -> dict[str, Any]:
    """The comparison as JSON has it, whole; shares are of A's figures, what is not known is null."""
    found = compare_runs(first.records, second.records)
    return {
        "runs": [{"run": run.name, "environment": run.environment()} for run in (first, second)],
        "cells": [
            {
                "workload": cell.cell.workload,
                "mode": cell.cell.mode,
                "model": " ".join(cell.cell.model),
                "keys": list(cell.cell.keys),
                "a": None if cell.first is None else _point_to_dict(cell.first),
                "b": None if cell.second is None else _point_to_dict(cell.second),
                **_changes(cell.pair),
            }
            for cell in found.cells
        ],
        "changed": [
            {"a": _point_to_dict(pair.first), "b": _point_to_dict(pair.second), **_changes(pair)}
            for pair in found.changed
        ],
        "median_change": found.median_change,
        "unchanged": found.unchanged,
        "noise_not_known": found.unknown,
        "predicted_in_one": found.unlike,
        "fits_in_one": [
            {
                "fits_in": "a" if one.fits_in_first else "b",
                "point": _point_to_dict(one.point),
                "other_outcome": one.other.measurement.outcome.value,
                "other_message": one.other.measurement.message,
            }
            for one in found.one_sided
        ],
        "only_in_a": found.only_first,
        "only_in_b": found.only_second,
    }


def _changes(pair: Pair | None) -> dict[str, Any]:
    return {
        "change": None if pair is None else pair.change,
        "is_beyond_noise": None if pair is None else pair.is_beyond,
        "peak_change": None if pair is None else pair.peak_change,
    }


def _point_to_dict(point: Point) -> dict[str, Any]:
    interval = rate_interval(point)
    return {
        "digest": point.record.digest,
        "candidate": point.candidate.to_dict(),
        "is_predicted": is_predicted(point.record),
        "tokens_per_s": point.tokens_per_s,
        "tokens_per_s_interval": None if interval is None else list(interval),
        "peak_bytes": point.peak_bytes,
    }
