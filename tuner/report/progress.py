"""How far a search is: a bar on a terminal, a line a trial anywhere else. Both on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import NoReturn, Self, TextIO

from tqdm import tqdm as ProgressBar

from ..events import SearchEvent
from ..record import Record
from ..sizes import format_duration, format_mb
from .facts import format_rate, outcome_note

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


def summarize(event: SearchEvent) -> list[str]:
    """Pruned, failed, best so far and time left, each where there is something to tell."""
    parts = [f"{event.pruned} pruned"]
    if event.failed:
        parts.append(f"{event.failed} failed")
    if event.best_tokens_per_s is not None:
        parts.append(f"best {format_rate(event.best_tokens_per_s)} tokens/s")
    if event.seconds_left_estimate is not None and event.done < event.total:
        parts.append(f"about {format_duration(event.seconds_left_estimate)} left")
    return parts


def describe_trial(event: SearchEvent, record: Record) -> str:
    """One line for a trial that has just ended."""
    candidate, measurement = record.to_candidate(), record.measurement
    if record.fits and measurement.samples_s:
        found = f"{format_rate(*measurement.tokens_per_s(candidate.tokens_per_step))} tokens/s"
        if measurement.peak_bytes is not None:
            found += f", {format_mb(measurement.peak_bytes)} MB"
    else:
        found = outcome_note(measurement.outcome)
    width = len(str(event.total))
    count = f"[{event.done:{width}}/{event.total}]"
    return f"{count} {candidate.describe()}: {found} ({', '.join(summarize(event))})"
