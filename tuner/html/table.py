"""The table of a page: it can be read where no script runs, and is small for thousands of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .escaping import escape
from .rows import Row

Columns = Sequence[tuple[str, str, Sequence[str]]]
"""Name, heading and cells of each, escaped."""
_NUMBERS = frozenset({"parameters", "cell", "batch", "rate", "low", "peak_mb", "energy_mj"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Headings:
    """What columns are called that differ between workloads. cell: what cells are told apart by, such as
    Sequence; unit: of the rates."""

    cell: str
    unit: str

    @property
    def item(self) -> str:
        """One of what the rates count, for example `token`."""
        return self.unit.removesuffix("/s").removesuffix("s")

    def columns(self, rows: Sequence[Row]) -> Columns:
        """Name, heading and cells of every column in which some row has something, escaped."""
        named = (
            ("run", "Run", [escape(row.run) for row in rows]),
            ("model", "Model", [_mark(row) + escape(row.model) for row in rows]),
            ("parameters", "Parameters", [_number(row.parameters) for row in rows]),
            ("cell", escape(self.cell), [escape(row.cell) for row in rows]),
            ("batch", "Batch", [str(row.batch) for row in rows]),
            (
                "version",
                "Kernels",
                [escape(", ".join(filter(None, (row.version, row.others)))) for row in rows],
            ),
            ("precision", "Precision", [escape(row.precision) for row in rows]),
            ("checkpointing", "Checkpointing", [escape(row.checkpointing) for row in rows]),
            ("mode", "Mode", [escape(row.mode) for row in rows]),
            ("rate", escape(self.unit.capitalize()), list(map(_rate, rows))),
            ("low", "Interval", list(map(_interval, rows))),
            ("peak_mb", "Peak (MB)", [_number(row.peak_mb) for row in rows]),
            ("energy_mj", f"mJ/{escape(self.item)}", [_number(row.energy_mj) for row in rows]),
            ("outcome", "Outcome", [escape(_outcome(row)) for row in rows]),
        )
        return [(key, name, cells) for key, name, cells in named if any(cells) or not rows]


def number_cells(columns: Columns) -> str:
    """Which columns hold numbers, as a selector of their cells has it."""
    return ", ".join(f":nth-child({n})" for n, (key, *_) in enumerate(columns, start=1) if key in _NUMBERS)


def render_table(columns: Columns) -> str:
    """Head and body. Cells end where the next begins, as HTML allows: a third fewer bytes of a huge table."""
    heads = "".join(f'<th scope="col" data-key="{key}">{name}' for key, name, _ in columns)
    lines = (
        f"<tr data-i={index}>" + "".join(f"<td>{cell}" for cell in cells) + "\n"
        for index, cells in enumerate(zip(*(cells for _, _, cells in columns), strict=True))
    )
    return f"<thead><tr>{heads}</thead>\n<tbody>{''.join(lines)}</tbody>"


def _mark(row: Row) -> str:
    return "★ " if row.recommended else "◆ " if row.frontier else ""


def _rate(row: Row) -> str:
    return "" if row.rate is None else ("~" if row.predicted else "") + _number(row.rate)


def _interval(row: Row) -> str:
    return "" if row.low is None or row.high is None else f"{_number(row.low)}–{_number(row.high)}"


def _outcome(row: Row) -> str:
    if row.fits and row.predicted:  # whose note would say the row once more
        return "predicted to fit"
    outcome = "measured" if row.fits else row.outcome.replace("_", " ")
    return f"{outcome}: {row.note}" if row.note else outcome


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 3
    return f"{value:,.{digits}f}"
