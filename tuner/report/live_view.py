"""What a terminal shows of a search that goes on: its lines, at any width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..measuring.gauge import Reading
from ..records.wording import model_order, namer, rate_unit
from ..search.progress import SearchEvent
from ..values.candidate import Candidate
from ..values.record import Record
from ..values.sizes import MIB, format_duration
from .facts import format_rate

if TYPE_CHECKING:
    from rich.text import Text

_LABEL = 8  # columns
_BAR = 30  # at most
_LEAST_BAR = 8
_GAP = "  "
_NEARLY = 0.9  # of the budget
_SHARE = 0.6  # of the rows: devices beyond are counted

Part = tuple[str, str]
"""A text and its style."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """One that measures. begun_s: since when it does what it does."""

    name: str
    candidate: Candidate | None
    busy_s: float
    reading: Reading | None


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What is shown. event: None before the first; best: of each model, mode and workload, the fastest."""

    budget_bytes: int
    elapsed_s: float
    event: SearchEvent | None
    seconds_left: float | None
    devices: Sequence[Device]
    best: Sequence[Record]

    def lines(self, width: int, height: int) -> list[Text]:
        """Lines that are narrower than the terminal, and fewer than its rows."""
        found = self._progress(width - 1)
        for number, device in enumerate(self.devices):
            lines = self._device(device, width - 1)
            if number and len(found) + len(lines) > height * _SHARE:
                found += row("", [(f"and {len(self.devices) - number} more", "dim")], width - 1)
                break
            found += lines
        found += self._best(width - 1, max(height - 1 - len(found), 1))
        return found[: max(height - 1, 1)]

    def _progress(self, width: int) -> list[Text]:
        event = self.event
        if event is None:
            return row(None, [("the worker starts", ""), (format_duration(self.elapsed_s), "")], width)
        count = f"{event.done} of {event.total}"
        lines = beside(bar(event.done, event.total, width - len(count) - 2, "green"), count, None, width)
        parts = [(f"{event.pruned} pruned", "")]
        if event.failed:
            parts.append((f"{event.failed} failed", "red"))
        parts.append((format_duration(self.elapsed_s), ""))
        if self.seconds_left is not None and self.seconds_left >= 1 and event.done < event.total:
            parts.append((f"about {format_duration(self.seconds_left)} left", ""))
        return lines + row(None, parts, width)

    def _device(self, device: Device, width: int) -> list[Text]:
        label = "now" if len(self.devices) == 1 else short_name(device.name)
        candidate = device.candidate
        parts = [("waits", "dim")]
        if candidate is not None:
            parts = [(candidate.describe(), ""), (format_duration(device.busy_s), "")]
        lines = row(label, parts, width)
        reading = device.reading
        if reading is None:
            return lines
        if reading.used_bytes is not None:
            figures = f"{reading.used_bytes / MIB:,.0f} of {self.budget_bytes / MIB:,.0f} MB"
            share = reading.used_bytes / self.budget_bytes
            style = "green" if share < _NEARLY else "yellow" if share <= 1 else "red"
            room = width - _LABEL - len(figures) - len(_GAP)
            drawn = bar(reading.used_bytes, self.budget_bytes, room, style)
            lines += beside(drawn, figures, "memory" if len(self.devices) == 1 else "", width)
        health = []
        if reading.temperature_c is not None:
            health.append((f"{reading.temperature_c} °C", ""))
        if reading.sm_clock_mhz is not None:
            health.append((f"{reading.sm_clock_mhz:,} MHz", ""))
        return lines + (row("GPU" if len(self.devices) == 1 else "", health, width) if health else [])

    def _best(self, width: int, rows: int) -> list[Text]:
        """The fastest of each model: with its memory and its configuration where there is room."""
        records = sorted(self.best, key=_order)
        candidates = [record.to_candidate() for record in records]
        name_of = namer(candidates)
        is_one_mode = len({candidate.mode for candidate in candidates}) < 2
        table = [
            (
                name_of(candidate) + ("" if is_one_mode else f" {candidate.mode}"),
                f"{format_rate(rate_of(record))} {rate_unit([candidate])}",
                ""
                if record.measurement.peak_bytes is None
                else f"{record.measurement.peak_bytes / MIB:,.0f} MB",
                candidate.describe(),
            )
            for record, candidate in zip(records, candidates, strict=True)
        ]
        if not table:
            return []
        sides = (str.ljust, str.rjust, str.rjust, str.ljust)
        widths = [max(len(line[column]) for line in table) for column in range(4)]
        shown = [
            [side(cell, columns) for side, cell, columns in zip(sides, line, widths, strict=True)]
            for line in table
        ]
        columns = next(
            (count for count in (4, 3, 2) if _LABEL + sum(widths[:count]) + len(_GAP) * (count - 1) <= width),
            1,
        )
        lines = [
            join([("best".ljust(_LABEL) if number == 0 else " " * _LABEL, "bold"), (_GAP.join(cells), "")])
            for number, cells in enumerate(line[:columns] for line in shown)
        ]
        if len(lines) > rows:
            more = f"{' ' * _LABEL}and {len(lines) - rows + 1} more"
            lines = [*lines[: rows - 1], join([(more, "dim")])]
        for line in lines:
            line.truncate(width, overflow="crop")
        return lines


def rate_of(record: Record) -> float:
    """Items a second of a record that fits."""
    return record.measurement.tokens_per_s(record.to_candidate().items_per_step)[0]


def key_of(record: Record) -> tuple[str, ...]:
    """Of what a record may be the best: a model by its words, in a mode."""
    candidate = record.to_candidate()
    return candidate.workload, candidate.mode, *candidate.model_words


def short_name(device: str) -> str:
    """A device as a label: by the begin of its UUID, or the end of its name."""
    return device.removeprefix("GPU-")[: _LABEL - 1] if device.startswith("GPU-") else device[1 - _LABEL :]


def bar(done: float, total: float, width: int, style: str) -> list[Part]:
    """A bar of at most so many columns; none where there are fewer than eight."""
    columns = min(width, _BAR)
    if columns < _LEAST_BAR:
        return []
    filled = min(int(columns * done / total + 0.5), columns) if total else 0
    return [("█" * filled, style), ("░" * (columns - filled), "dim")]


def beside(drawn: list[Part], text: str, label: str | None, width: int) -> list[Text]:
    """A bar with what it stands for, or that alone where there is no bar."""
    if not drawn:
        return row(label, [(text, "")], width)
    head = "" if label is None else label.ljust(_LABEL)
    return [join([(head, "bold"), *drawn, (_GAP + text, "")])]


def join(parts: Sequence[Part]) -> Text:
    """Parts as one line."""
    from rich.text import Text  # loads for long, and a terminal alone needs it

    return Text.assemble(*parts, no_wrap=True)


def row(label: str | None, parts: Sequence[Part], width: int) -> list[Text]:
    """Parts beside a label, on one line as far as they fit it, else on several."""
    indent = 0 if label is None else _LABEL
    lines: list[list[Part]] = []
    used = width  # of the line that is being filled
    for text, style in parts:
        pieces = textwrap.wrap(text, max(width - indent, 1)) or [""]
        for number, piece in enumerate(pieces):
            if number == 0 and lines and used + 3 + len(piece) <= width:
                lines[-1] += [(" · ", "dim"), (piece, style)]
                used += 3 + len(piece)
            else:
                head = "" if lines or label is None else label
                lines.append([(head.ljust(indent), "bold"), (piece, style)])
                used = indent + len(piece)
    return [join(line) for line in lines]


def _order(record: Record) -> tuple[str, float, str, str]:
    candidate = record.to_candidate()
    return *model_order(candidate.workload, candidate.model), candidate.mode
