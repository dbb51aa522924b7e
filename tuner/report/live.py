"""A run on a terminal: a few lines that are drawn anew twice a second, above them what is told."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from ..measuring.gauge import Gauge
from ..search.progress import SearchEvent
from ..values.sizes import format_duration
from ..values.terminal import fill, terminal_width
from .display import Beginning
from .lines import LineDisplay
from .live_view import Device, View, bar, beside, key_of, rate_of, row

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.live import Live
    from rich.text import Text

    from ..values.record import Record

_A_SECOND = 2  # redrawings: a step is being timed beside them
_NOT_REDRAWN = ("", "dumb", "unknown")


def is_redrawn(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which lines can be drawn anew."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in _NOT_REDRAWN


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """An event, when it came, and since when each device measures what it does: one value for two threads."""

    event: SearchEvent
    at_s: float
    since_s: Mapping[str, float]


class LiveDisplay(LineDisplay):
    """For a terminal. What it draws goes away at the end; the cursor is never hidden, so that it is there
    however the process ends."""

    def __init__(self, out: TextIO, err: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(out, err, clock)
        self._live: Live | None = None
        self._budget_bytes = 0
        self._begun_s = clock()
        self._seen: _Seen | None = None
        self._gauges: Mapping[str, Gauge] = {}
        self._best: dict[tuple[str, ...], Record] = {}
        self._predicted: tuple[int, int, str] | None = None

    def begin(self, beginning: Beginning) -> None:
        super().begin(beginning)
        self._budget_bytes = beginning.budget_bytes
        for record in beginning.earlier:
            self._note(record)

    def watch(self, gauges: Mapping[str, Gauge]) -> None:
        self._gauges = dict(gauges)
        self._draw()

    def show(self, event: SearchEvent) -> None:
        now_s = self._clock()
        if event.last is not None:
            self._note(event.last)
        before = {} if self._seen is None else self._seen.since_s
        since_s = {device: before.get(device, now_s) for device in event.running}
        self._seen = _Seen(event=event, at_s=now_s, since_s=since_s)
        self._draw()

    def show_predicted(self, done: int, total: int) -> None:
        self._predicted = done, total, self._time_left(done, total)
        self._draw()

    def close(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def view(self) -> View:
        """What is shown now."""
        now_s, seen = self._clock(), self._seen
        event = None if seen is None else seen.event
        since_s = {} if seen is None else seen.since_s
        left = None if event is None else event.seconds_left_estimate
        return View(
            budget_bytes=self._budget_bytes,
            elapsed_s=now_s - self._begun_s,
            event=event,
            seconds_left=None if seen is None or left is None else max(left - (now_s - seen.at_s), 0.0),
            devices=[
                Device(
                    name=name,
                    candidate=None if event is None else event.running.get(name),
                    busy_s=now_s - since_s.get(name, now_s),
                    reading=self._gauges[name]() if name in self._gauges else None,
                )
                for name in {**self._gauges, **since_s}
            ],
            best=list(self._best.values()),
        )

    def _say(self, line: str) -> None:
        if self._live is None:
            super()._say(line)
        else:
            told = fill(line, terminal_width(self._err))
            self._live.console.print(told, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _note(self, record: Record) -> None:
        if not record.fits or not record.measurement.samples_s:
            return
        best = self._best.get(key_of(record))
        if best is None or rate_of(record) > rate_of(best):
            self._best[key_of(record)] = record

    def _draw(self) -> None:
        """Begin to draw: from then on it is done on a thread of the library's."""
        if self._live is None:
            self._live = _live(self._err, _Drawing(self._lines))
            self._live.start()

    def _lines(self, width: int, height: int) -> list[Text]:
        if self._predicted is None:
            return self.view().lines(width, height)
        done, total, left = self._predicted
        elapsed = format_duration(self._clock() - self._begun_s)
        text = f"{done / total:.0%}"
        drawn = beside(bar(done, total, width - len(text) - 3, "green"), text, None, width - 1)
        parts = ["predicting", elapsed, *([left] if left else [])]
        return [*drawn, *row(None, [(part, "") for part in parts], width - 1)]


class _Drawing:
    """Lines that are made anew for the terminal as it is, in its columns and rows."""

    def __init__(self, lines: Callable[[int, int], list[Text]]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield from self._lines(options.max_width, options.size.height)


def _live(stream: TextIO, drawing: _Drawing) -> Live:
    from rich.console import Console  # loads for long, and a terminal alone needs it
    from rich.live import Live

    class Terminal(Console):
        def show_cursor(self, show: bool = True) -> bool:
            return False  # what is not hidden need not be shown again

    return Live(
        drawing,
        console=Terminal(file=stream, force_terminal=True, force_jupyter=False, legacy_windows=False),
        refresh_per_second=_A_SECOND,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=True,  # what others print there stands above
        vertical_overflow="crop",
    )
