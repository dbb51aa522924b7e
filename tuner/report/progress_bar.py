"""How far a search is: a bar on a terminal, a line a trial anywhere else. Both on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Self, TextIO

from tqdm import tqdm as ProgressBar

from ..records.wording import rate_unit
from ..search.progress import SearchEvent
from ..values.record import Record
from ..values.sizes import format_duration, format_mb
from .facts import describe_rate, format_rate, outcome_note

_LINE_EVERY_S = 10.0  # a log wants to know that something happens, and not more
_BAR = "{n_fmt}/{total_fmt} |{bar:10}| {elapsed}{postfix}"


class ProgressDisplay:
    """Shows the events of one search on a stream; also a context manager, which removes the bar."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: ProgressBar[NoReturn] | None = None

    def __call__(self, event: SearchEvent) -> None:
        """Show an event."""
        if self._stream.isatty():
            self._draw(event)
        elif event.last is not None and event.last.attempt > 0:  # rejected candidates are only counted
            print(describe_trial(event, event.last), file=self._stream, flush=True)

    def _draw(self, event: SearchEvent) -> None:
        if self._bar is None:
            self._bar = ProgressBar(
                total=event.total,
                initial=event.done,
                file=self._stream,
                bar_format=_BAR,
                dynamic_ncols=True,
                leave=False,
            )
        self._bar.total = event.total
        self._bar.n = event.done
        now = [candidate.describe() for candidate in event.running[-1:]]
        if len(event.running) > 1:
            now.append(f"and {len(event.running) - 1} more")
        self._bar.set_postfix_str(" · ".join([*summarize(event), *now]), refresh=True)

    def tell(self, text: str) -> None:
        """Print a line; the bar, if any, goes on below it."""
        ProgressBar.write(text, file=self._stream)
        self._stream.flush()

    def close(self) -> None:
        """Take the bar away; may be called more than once."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PredictionProgress:
    """Shows how far a prediction is: a bar on a terminal, now and then a line anywhere else; a context."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._told_s = clock()
        self._first: tuple[int, float] | None = None  # done and when, once the processes have started
        self._bar: ProgressBar[NoReturn] | None = None

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` parts of equal weight are predicted."""
        now_s = self._clock()
        left = ""
        if self._first is None and done:
            self._first = done, now_s
        elif self._first is not None and done < total:
            first, first_s = self._first
            left = f"about {format_duration((now_s - first_s) / (done - first) * (total - done))} left"
        if self._stream.isatty():
            if self._bar is None:
                form = "predicting {percentage:3.0f}% |{bar:10}| {elapsed}{postfix}"
                self._bar = ProgressBar(total=total, file=self._stream, bar_format=form, leave=False)
            self._bar.n = done
            self._bar.set_postfix_str(left, refresh=True)
        elif left and now_s - self._told_s >= _LINE_EVERY_S:
            self._told_s = now_s
            print(f"predicted {done / total:.0%}, {left}", file=self._stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def summarize(event: SearchEvent) -> list[str]:
    """Pruned, failed, best so far and time left, each where there is something to tell."""
    parts = [f"{event.pruned} pruned"]
    if event.failed:
        parts.append(f"{event.failed} failed")
    if event.best_tokens_per_s is not None:
        seen = [*event.running, *([] if event.last is None else [event.last.to_candidate()])]
        unit = rate_unit(seen) if seen else "tokens/s"
        parts.append(f"best {format_rate(event.best_tokens_per_s)} {unit}")
    if event.seconds_left_estimate is not None and event.done < event.total:
        parts.append(f"about {format_duration(event.seconds_left_estimate)} left")
    return parts


def describe_trial(event: SearchEvent, record: Record) -> str:
    """One line for a trial that has just ended."""
    measurement, rate = record.measurement, describe_rate(record)
    if rate is not None:
        found = f"{rate} {rate_unit([record.to_candidate()])}"
        if measurement.peak_bytes is not None:
            found += f", {format_mb(measurement.peak_bytes)} MB"
    else:
        found = outcome_note(record)
    width = len(str(event.total))
    count = f"[{event.done:{width}}/{event.total}]"
    return f"{count} {record.to_candidate().describe()}: {found} ({', '.join(summarize(event))})"
