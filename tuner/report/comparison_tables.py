"""The tables of a comparison of two runs, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..records.cells import Cell
from ..records.compare import CellPair, Comparison, OneSided, Pair, is_predicted
from ..records.frontier import Point
from ..records.run_directory import RunInfo
from ..records.wording import rate_unit
from ..values.candidate import DEFAULT_WORKLOAD
from ..values.measurement import DeviceInfo, Versions
from ..values.record import Record
from ..values.sizes import MIB, format_budget, format_mb
from .facts import describe_rate, outcome_note

Table = tuple[list[str], list[list[str]], str]
"""Headings, rows and alignment, a letter a column."""
BEST = ("Best of A", "Best of B")
PEAKS = ("Peak A (MB)", "Peak B (MB)", "Change of peak")
PREDICTED = (
    "~ is predicted, with the interval that should hold nine of ten; what is predicted in one run and "
    "measured in the other is not compared."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRun:
    """A run with what a comparison asks of it. name: the run's folder, as it was given. estimates: what it
    keeps of other budgets, predicted points by budget."""

    name: str
    info: RunInfo
    records: tuple[Record, ...]
    estimates: Mapping[int, Sequence[Point]] = field(default_factory=dict)

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


def unit_of(found: Comparison) -> str:
    """What the rates count."""
    points = (point for pair in found.cells for point in (pair.first, pair.second) if point is not None)
    return rate_unit(point.candidate for point in points).capitalize()


def has_predicted(first: ComparedRun, second: ComparedRun) -> bool:
    """Whether a figure of either run is predicted."""
    return any(is_predicted(record) for record in (*first.records, *second.records) if record.fits)


def environments_table(first: ComparedRun, second: ComparedRun) -> Table:
    """What the figures of both depend on, and what of it differs."""
    one, other = first.environment(), second.environment()
    rows = [
        [name, value or "-", other[name] or "-", "" if value == other[name] or name == "Made" else "differs"]
        for name, value in one.items()
    ]
    return ["Run", "A", "B", ""], rows, "llll"


def cells_table(found: Comparison) -> Table:
    """The best of each cell."""
    unit = unit_of(found)
    headers = ["Cell", *BEST, f"{unit} A", f"{unit} B", "Change", *PEAKS]
    return headers, [_cell_row(pair) for pair in found.cells], "lllrrlrrr"


def changed_table(found: Comparison, most: int | None) -> Table:
    """What changed beyond the noise, the largest change first; at most so many rows."""
    unit = unit_of(found)
    headers = ["Configuration", f"{unit} A", f"{unit} B", "Change", *PEAKS]
    return headers, [_pair_row(pair) for pair in found.changed[:most]], "lrrlrrr"


def one_sided_table(found: Comparison, most: int | None) -> Table:
    """What fits in one run and not in the other; at most so many rows."""
    return ["Configuration", "A", "B"], [_one_sided_row(one) for one in found.one_sided[:most]], "lll"


def count_lines(found: Comparison) -> list[str]:
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
    return lines


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
    text = f"{share:+.1%}".replace("%", " %").replace("-", "−")
    return text[1:] if text[1:] == "0.0 %" else text


def _device(device: DeviceInfo) -> str:
    return f"{device.name} ({device.kind})"


def _version(versions: Versions, name: str) -> str:
    return getattr(versions, name) or ""


def _each(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))
