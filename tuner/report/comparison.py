"""Two runs compared, for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..records.cells import Cell
from ..records.compare import CellPair, Comparison, OneSided, Pair, compare_runs, is_predicted, rate_interval
from ..records.frontier import Point
from ..records.run_directory import RunInfo
from ..records.wording import rate_unit
from ..values.candidate import DEFAULT_WORKLOAD
from ..values.measurement import DeviceInfo, Versions
from ..values.record import Record
from ..values.sizes import MIB, format_budget, format_mb
from ..values.terminal import fill
from .facts import describe_rate, outcome_note
from .fitted_table import SPREAD, fit_table

SHOWN = 20
"""Rows of a table of configurations, as long as not all are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRun:
    """A run with what a comparison asks of it. name: the run's folder, as it was given."""

    name: str
    info: RunInfo
    records: tuple[Record, ...]

    def environment(self) -> dict[str, str]:
        """What its figures depend on, label by label; of several values all, as they came."""
        devices = [r.measurement.device for r in self.records if r.measurement.device is not None]
        versions = [r.measurement.versions for r in self.records if r.measurement.versions is not None]
        figures = (is_predicted(r) for r in self.records if r.fits)
        return {
            "Device": _each(map(_device, devices)) or f"{self.info.device_name} ({self.info.device_kind})",
            "Memory of the device (MB)": _each(format_mb(device.total_bytes) for device in devices),
            "Budget": format_budget(self.info.budget_bytes),
            **{label: _each(_version(v, name) for v in versions) for label, name in _VERSIONS.items()},
            "Study": self.info.study,
            "Made": self.info.created_at,
            "Figures": _each("predicted" if value else "measured" for value in figures),
        }


_VERSIONS = {
    "Driver": "driver",
    "CUDA": "cuda",
    "PyTorch": "torch",
    "Triton": "triton",
    "phase8-tune": "phase8_tune",
    "Python": "python",
    "System": "os",
}


def render_comparison(
    first: ComparedRun, second: ComparedRun, *, shows_all: bool, json_command: str, width: int | None
) -> str:
    """The environments, the best of each cell, what changed beyond the noise, what fits in one run only.

    shows_all: every configuration, not only the first of them. json_command: shows all that is left out.
    width: columns of the terminal; None: no limit.
    """
    found = compare_runs(first.records, second.records)
    most = None if shows_all else SHOWN

    def table(headers: Sequence[str], rows: Sequence[Sequence[str]], align: str, *order: str) -> str:
        return fit_table(headers, rows, align=align, width=width, order=order, shows_all=json_command)

    parts = [fill(f"A: {first.name}\nB: {second.name}", width)]
    parts.append(_environments(first, second, width))
    unit = rate_unit(point.candidate for pair in found.cells for point in _points(pair)).capitalize()
    left_out = (_PEAKS[2], f"{unit} A{SPREAD}", f"{unit} B{SPREAD}", *_PEAKS[:2])
    if found.cells:
        cell_headers = ["Cell", *_BEST, f"{unit} A", f"{unit} B", "Change", *_PEAKS]
        head = f"The best of each cell. Change: of {unit.lower()}, B against A. 1 MB = 2^20 bytes."
        rows = [_cell_row(pair) for pair in found.cells]
        parts += [
            fill(head, width),
            table(cell_headers, rows, "lllrrlrrr", *left_out[:3], *_BEST, *_PEAKS[:2]),
        ]
    parts.append(fill(_counts(found, most), width))
    if found.changed:
        headers = ["Configuration", f"{unit} A", f"{unit} B", "Change", *_PEAKS]
        rows = [_pair_row(pair) for pair in found.changed[:most]]
        parts.append(table(headers, rows, "lrrlrrr", *left_out))
    if found.one_sided:
        parts.append(fill(f"Fit in one run and not in the other{_first_of(found.one_sided, most)}:", width))
        headers = ["Configuration", "A", "B"]
        parts.append(table(headers, [_one_sided_row(one) for one in found.one_sided[:most]], "lll"))
    if any(is_predicted(record) for record in (*first.records, *second.records) if record.fits):
        note = (
            "~ is predicted, with the interval that should hold nine of ten; what is predicted in one run "
            "and measured in the other is not compared."
        )
        parts.append(fill(note, width))
    return "\n\n".join(parts) + "\n"


_BEST = ("Best of A", "Best of B")
_PEAKS = ("Peak A (MB)", "Peak B (MB)", "Change of peak")


def _counts(found: Comparison, most: int | None) -> str:
    """What became of the configurations of both runs, in a sentence each."""
    both = len(found.changed) + found.unchanged + found.unknown + found.unlike
    lines = [
        f"Fit in both runs: {both:,}; changed beyond the noise: {len(found.changed):,}, "
        f"not beyond it: {found.unchanged:,}"
        + (f", noise not known: {found.unknown:,}" if found.unknown else "")
        + (f", predicted in one and measured in the other: {found.unlike:,}" if found.unlike else "")
        + "."
    ]
    if found.median_change is not None:
        lines.append(f"The median change of these: {_percent(found.median_change)}.")
    if found.only_first or found.only_second:
        lines.append(f"Tried in A alone: {found.only_first:,}, in B alone: {found.only_second:,}.")
    if found.changed:
        lines.append(f"Changed by more than both intervals together{_first_of(found.changed, most)}:")
    return "\n".join(lines)


def _first_of(items: Sequence[object], most: int | None) -> str:
    return "" if most is None or len(items) <= most else f" (the first {most} of {len(items):,}; --all)"


def _environments(first: ComparedRun, second: ComparedRun, width: int | None) -> str:
    """Both environments as a table; a line for each of their facts where that is too wide."""
    one, other = first.environment(), second.environment()
    rows = [
        [name, value or "-", other[name] or "-", "" if value == other[name] or name == "Made" else "differs"]
        for name, value in one.items()
    ]
    table = fit_table(["Run", "A", "B", ""], rows, align="llll", width=None, order=(), shows_all="")
    if width is None or max(map(len, table.split("\n"))) <= width:
        return table
    lines = (f"{name}: {a}" if a == b else f"{name}: A {a}; B {b}" for name, a, b, _ in rows)
    return fill("\n".join(lines), width)


def _cell_row(cell: CellPair) -> list[str]:
    names = ["-" if point is None else point.candidate.describe() for point in (cell.first, cell.second)]
    if cell.first is not None and names[0] == names[1]:
        names[1] = "the same"
    names.insert(0, _cell_name(cell.cell))
    if cell.pair is not None:
        return [*names, *_figures(cell.pair)]
    rates = ["-" if p is None else describe_rate(p.record) or "-" for p in (cell.first, cell.second)]
    peaks = ["-" if p is None else f"{p.peak_bytes / MIB:,.0f}" for p in (cell.first, cell.second)]
    return [*names, *rates, "-", *peaks, "-"]


def _cell_name(cell: Cell) -> str:
    """For example `small 512`: the model, and what else tells cells apart, as far as it is not the usual."""
    usual = (DEFAULT_WORKLOAD, "train")
    others = (word for word in (cell.workload, cell.mode) if word not in usual)
    return " ".join((*cell.model, *map(str, cell.keys), *others))


def _pair_row(pair: Pair) -> list[str]:
    return [pair.first.candidate.describe(), *_figures(pair)]


def _figures(pair: Pair) -> list[str]:
    """Rates, change and peaks of a pair as a row has them."""
    said = {True: "", False: " (noise)", None: " (noise not known)"}[pair.is_beyond]
    change = "not compared" if pair.change is None else f"{_percent(pair.change)}{said}"
    return [
        describe_rate(pair.first.record) or "-",
        describe_rate(pair.second.record) or "-",
        change,
        f"{pair.first.peak_bytes / MIB:,.0f}",
        f"{pair.second.peak_bytes / MIB:,.0f}",
        "not compared" if pair.peak_change is None else _percent(pair.peak_change),
    ]


def _one_sided_row(one: OneSided) -> list[str]:
    rate = f"{describe_rate(one.point.record)} {rate_unit([one.point.candidate])}"
    sides = [f"{rate}, {one.point.peak_bytes / MIB:,.0f} MB", _why_not(one.other)]
    return [one.point.candidate.describe(), *(sides if one.fits_in_first else reversed(sides))]


def _why_not(record: Record) -> str:
    """Why a record is no point: what it ended with, or that its prediction leaves too little room."""
    return "does not fit with its margin" if record.fits else outcome_note(record)


def _percent(share: float) -> str:
    text = f"{share:+.1%}".replace("%", " %")
    return text[1:] if text[1:] == "0.0 %" else text


def _points(pair: CellPair) -> list[Point]:
    return [point for point in (pair.first, pair.second) if point is not None]


def _device(device: DeviceInfo) -> str:
    return f"{device.name} ({device.kind})"


def _version(versions: Versions, name: str) -> str:
    return getattr(versions, name) or ""


def _each(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))


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
