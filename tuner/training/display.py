"""How far a training is, for people: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

import click
from tqdm import tqdm as ProgressBar

from ..values.sizes import MIB, format_duration


class TrainingDisplay:
    """Shows a training on standard output, or as a bar on standard error where that is a terminal."""

    def __init__(self, *, first: int, steps: int) -> None:
        self._steps = steps
        self._began_s, self._first = time.monotonic(), first
        self._bar: ProgressBar[NoReturn] | None = None
        if sys.stderr is not None and sys.stderr.isatty():
            self._bar = ProgressBar(
                total=steps,
                initial=first,
                dynamic_ncols=True,
                leave=False,
                bar_format="{n_fmt}/{total_fmt} |{bar:10}| {desc}",
            )

    def show(self, step: int, loss: float, tokens_per_s: float, memory_bytes: int | None) -> None:
        """The state at a step. tokens_per_s: 0 where nothing steady was timed yet."""
        rate = f"  {tokens_per_s:,.0f} tokens/s" if tokens_per_s else ""
        if self._bar is None:
            self._say(f"step {step}/{self._steps}  loss {loss:.4f}{rate}")
            return
        parts = [f"loss {loss:.4f}", rate.strip()]
        if memory_bytes is not None:
            parts.append(f"{memory_bytes / MIB:,.0f} MB")
        done = step - self._first
        if done:
            left_s = (time.monotonic() - self._began_s) / done * (self._steps - step)
            parts.append(f"{format_duration(left_s)} left")
        self._bar.n = step
        self._bar.set_description_str(" · ".join(part for part in parts if part), refresh=True)

    def tell(self, text: str) -> None:
        """A line; the bar, if any, goes on below it."""
        self._say(text)

    def _say(self, text: str) -> None:
        if self._bar is None:
            click.echo(text)
        else:
            self._bar.write(text, file=sys.stdout)

    def close(self) -> None:
        """Take the bar away; may be called more than once."""
        if self._bar is not None:
            self._bar.close()
