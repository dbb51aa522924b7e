"""What replays say: figures of merit of every strategy, a table and a plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tabulate import tabulate

from ..tuner.records.cells import cell_of
from ..tuner.values.sizes import format_budget, format_mb
from .search_replay import Step, Truth

_SHARE = 0.1
"""Of the points of the table, after which strategies are compared."""
GOAL_VOLUME, GOAL_MEAN, GOAL_WORST = 0.99, 0.005, 0.02
"""A search is good enough with so much of the hypervolume and at most so much regret."""
_VALUES: Mapping[str, Callable[[Step], float]] = {
    "seconds": lambda step: step.seconds,
    "volume": lambda step: step.volume,
    "regret_mean": lambda step: step.regret_mean,
    "regret_worst": lambda step: step.regret_worst,
    "ran_out": lambda step: step.ran_out,
}
_PANELS = (
    ("volume", "share of the hypervolume", "linear"),
    ("regret_mean", "regret, mean of cells", "log"),
    ("regret_worst", "regret, worst cell", "log"),
)
_LEAST_SHOWN = 1e-4


def compared_after(truth: Truth) -> int:
    """Measurements after which strategies are compared."""
    return math.ceil(_SHARE * len(truth.points))


def summarize(runs: Sequence[Sequence[Step]], after: int) -> dict[str, Any]:
    """Medians over the seeds: after so many measurements, until the goal was reached, and of every number of
    measurements. None where most seeds did not reach the goal."""
    reached = [_until_goal(steps) for steps in runs]
    length = max(map(len, runs))
    curves = {
        name: [
            round(statistics.median(value(_at(steps, place)) for steps in runs), 5)
            for place in range(1, length + 1)
        ]
        for name, value in _VALUES.items()
    }
    found = {name: curve[min(after, length) - 1] for name, curve in curves.items()}
    return {
        "measurements": after,
        **found,
        "measurements_to_goal": _median([place for place, _ in reached]),
        "seconds_to_goal": _median([seconds for _, seconds in reached]),
        "seeds_at_goal": sum(math.isfinite(place) for place, _ in reached),
        "seeds": len(runs),
        "curves": curves,
    }


def _at(steps: Sequence[Step], measurements: int) -> Step:
    """How far it was then; a search that had ended is where it ended."""
    return steps[min(measurements, len(steps)) - 1]


def _until_goal(steps: Sequence[Step]) -> tuple[float, float]:
    """Measurements and seconds; infinite where it was not reached."""
    for place, step in enumerate(steps, start=1):
        is_near = step.regret_mean <= GOAL_MEAN and step.regret_worst <= GOAL_WORST
        if is_near and step.volume >= GOAL_VOLUME:
            return place, step.seconds
    return math.inf, math.inf


def _median(values: Sequence[float]) -> float | None:
    found = statistics.median(values)
    return round(found, 1) if math.isfinite(found) else None


def table_of(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a strategy, for people."""
    rows = [
        (
            name,
            f"{each['volume']:.1%}",
            f"{each['regret_mean']:.2%}",
            f"{each['regret_worst']:.2%}",
            f"{each['seconds']:.0f}",
            f"{each['ran_out']:.0f}",
            "never" if each["seconds_to_goal"] is None else f"{each['measurements_to_goal']:.0f}",
            "never" if each["seconds_to_goal"] is None else f"{each['seconds_to_goal']:.0f}",
            f"{each['seeds_at_goal']} of {each['seeds']}",
        )
        for name, each in summaries.items()
    ]
    headers = (
        *("strategy", "hypervolume", "regret, mean", "regret, worst cell", "GPU seconds", "out of memory"),
        *("measurements to the goal", "GPU seconds to the goal", "seeds that reached it"),
    )
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def replay_report(truth: Truth, summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of a replay."""
    table, first = truth.table, next(iter(summaries.values()))
    most = max(len(each["curves"]["volume"]) for each in summaries.values())
    return f"""\
# Strategies replayed against a space that was measured whole

{len(truth.points)} configurations that fit {format_budget(table.budget_bytes)} on one \
{table.ran_on["gpu"]}, in {len(truth.best)} cells (model and sequence). The first five figures are those after
{first["measurements"]} measurements, a tenth; all are medians of {first["seeds"]} seeds.

{table_of(summaries)}

The goal is {GOAL_VOLUME:.0%} of the hypervolume, a mean regret of at most {GOAL_MEAN:.1%} and at most \
{GOAL_WORST:.0%} in the worst cell,
within {most} measurements. A regret is what is lost in a cell by taking what looked fastest, 100 % where
nothing of it was measured; a seed decides a strategy's random numbers and how far each observed rate is
off. `phase8-tune` knows what the predictor says of this card: which batches fit, and step times. The
others know nothing beforehand, but that a batch larger than one that ran out of memory does not fit. A launch
that runs out of memory costs no more than setting up on that line. What a table cannot tell: kernels are
compiled beside a search of `phase8-tune`, whereas here every measurement takes as long as it took.

![Share of the hypervolume and regret](replay.png)
"""


def plot(path: Path, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Medians against measurements, above, and against GPU seconds, below."""
    figure = Figure(figsize=(15, 8), layout="constrained")
    axes = figure.subplots(2, len(_PANELS), squeeze=False)
    for column, (name, title, scale) in enumerate(_PANELS):
        for row, label in enumerate(("measurements", "GPU seconds")):
            panel = axes[row][column]
            for place, (strategy, each) in enumerate(summaries.items()):
                curves = each["curves"]
                values = [max(value, _LEAST_SHOWN) for value in curves[name]]
                x = curves["seconds"] if row else range(1, len(values) + 1)
                panel.plot(x, values, label=strategy, linewidth=2.5 if place == 0 else 1.5)
            panel.set(xlabel=label, ylabel=title, yscale=scale, xscale="log" if row else "linear")
            panel.grid(alpha=0.3)
    axes[0][0].legend(loc="lower right")
    figure.savefig(path, dpi=110)


def exhaustive_report(truth: Truth) -> str:
    """The page of a table: what was measured, and the best of every cell."""
    table = truth.table
    rows = []
    for cell in truth.best:
        points = [point for point in truth.points.values() if cell_of(point.candidate) == cell]
        best = max(points, key=lambda point: point.tokens_per_s)
        rate, peak = f"{best.tokens_per_s:,.0f}", format_mb(best.peak_bytes)
        rows.append((best.candidate.describe(), rate, peak, len(points)))
    seconds = sum(entry.seconds for entry in table.entries.values())
    cells = tabulate(
        rows,
        headers=("the fastest of its cell", "tokens/s", "peak MB", "configurations"),
        tablefmt="github",
        disable_numparse=True,
    )
    return f"""\
# A space measured whole

Every line (model, sequence, kernel version, checkpointing) of the study `benchmarks/exhaustive.yaml` on one
{table.ran_on["gpu"]} held to {format_budget(table.budget_bytes)}: powers of two, and five batches up to the \
largest that is predicted to fit.
{len(table.entries)} were launched, {len(truth.points)} fitted; that took {seconds:.0f} s of measuring.

{cells}

`results.json` holds every configuration with tokens/s, their standard deviation over the samples, the peak
and the seconds that it took; and what was predicted of its line.
"""
