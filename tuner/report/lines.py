"""A run told in plain lines: progress on standard error, results on standard output."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TextIO

from ..records.wording import rate_unit
from ..search.progress import SearchEvent
from ..training.verification import Verification
from ..values.record import Record
from ..values.sizes import format_duration, format_mb
from ..values.terminal import fill, terminal_width
from .display import Beginning, Display, Ending
from .ending import render_ending, render_quiet_ending
from .facts import describe_rate, format_rate, outcome_note
from .verified import render_verified

_LINE_EVERY_S = 10.0  # a log wants to know that something happens, and not more


class LineDisplay(Display):
    """A line a trial, and now and then one of a prediction; the results for people."""

    def __init__(self, out: TextIO, err: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """out, err: where results and where all else goes."""
        self._out, self._err, self._clock = out, err, clock
        self._told_s = clock()
        self._time_left = TimeLeft(clock)

    def tell(self, text: str) -> None:
        self._say(f"phase8-tune: {text}")

    def begin(self, beginning: Beginning) -> None:
        self.tell(beginning.describe())

    def show(self, event: SearchEvent) -> None:
        if event.last is not None and event.last.attempt > 0:  # rejected candidates are only counted
            self._say(describe_trial(event, event.last))

    def show_predicted(self, done: int, total: int) -> None:
        left = self._time_left(done, total)
        if left and self._clock() - self._told_s >= _LINE_EVERY_S:
            self._told_s = self._clock()
            self._say(f"predicted {done / total:.0%}, {left}")

    def end(self, ending: Ending) -> None:
        text = render_ending(ending, width=terminal_width(self._out))
        print(text, end="", file=self._out, flush=True)

    def show_verified(self, found: Sequence[Verification]) -> None:
        text = render_verified(found, width=terminal_width(self._out))
        print(text, end="", file=self._out, flush=True)

    def _say(self, line: str) -> None:
        print(fill(line, terminal_width(self._err)), file=self._err, flush=True)


class QuietDisplay(Display):
    """The answer, and nothing else."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def end(self, ending: Ending) -> None:
        text = render_quiet_ending(ending, width=terminal_width(self._out))
        print(text, end="", file=self._out, flush=True)


class TimeLeft:
    """How long predictions still take, in words: known once the processes have started."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first: tuple[int, float] | None = None  # done, and when
        self._last = 0

    def __call__(self, done: int, total: int) -> str:
        """Empty where it is not known. done: where it falls, others have begun."""
        if done < self._last:
            self._first = None
        self._last = done
        if done and self._first is None:
            self._first = done, self._clock()
            return ""
        if self._first is None or done >= total or done == self._first[0]:
            return ""
        first, first_s = self._first
        return f"about {format_duration((self._clock() - first_s) / (done - first) * (total - done))} left"


def summarize(event: SearchEvent) -> list[str]:
    """Pruned, failed, best so far and time left, each where there is something to tell."""
    parts = [f"{event.pruned} pruned"]
    if event.failed:
        parts.append(f"{event.failed} failed")
    if event.best_tokens_per_s is not None:
        seen = [*event.running.values(), *([] if event.last is None else [event.last.to_candidate()])]
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
