"""The main plot of a run as a picture that stands still: peak memory against throughput."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..records.frontier import Point
from ..records.results import Results
from ..records.wording import model_order, namer, rate_unit
from ..values.atomic_write import replaced_whole
from ..values.candidate import Candidate
from ..values.measurement import DeviceInfo
from ..values.sizes import MIB, format_budget
from .facts import RunFacts, describe_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# As on the page: Okabe and Ito's colours, a grey for their yellow and black.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#5A5A5A")
_SHAPES = "oDs^PX*h"


def draw_frontier(results: Results, facts: RunFacts, paths: Sequence[Path]) -> None:
    """Draw the configurations that fit into files; the suffix of each, .svg or .png, is its format.

    The colour is the model, the shape the kernel version, the size the sequence; predicted ones are hollow,
    those on the frontier have a rim. Only of one mode, training where there is any.
    Raises: OSError where a file cannot be written.
    """
    figure = _draw(results, facts.study_name, facts.budget_bytes, facts.device)
    for path in paths:
        with replaced_whole(path) as draft:
            # Without a date: the same results make the same picture.
            kind = path.suffix.removeprefix(".")
            figure.savefig(draft, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)


def frontier_svg(results: Results, study_name: str, budget_bytes: int, device: DeviceInfo) -> bytes:
    """The same picture as an SVG file holds it, in UTF-8."""
    drawn = io.BytesIO()
    figure = _draw(results, study_name, budget_bytes, device)
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def _draw(results: Results, study_name: str, budget_bytes: int, device: DeviceInfo) -> Figure:
    from matplotlib.figure import Figure  # loads for half a second
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    modes = {point.candidate.mode for point in results.points}
    mode = "train" if "train" in modes or not modes else "forward"
    points = [point for point in results.points if point.candidate.mode == mode]
    front = {point.record.digest for point in results.frontier}
    name_of = namer(point.candidate for point in points)
    orders = {name_of(p.candidate): model_order(p.candidate.workload, p.candidate.model) for p in points}
    names = sorted(orders, key=lambda name: (orders[name], name))
    versions = sorted({p.candidate.version for p in points})
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    shapes = {version: _SHAPES[index % len(_SHAPES)] for index, version in enumerate(versions)}
    figure = Figure(figsize=(8.8, 5.0))
    axes = figure.add_axes((0.08, 0.105, 0.68, 0.82))  # a layout that is computed takes as long as all else
    for (name, version, is_predicted), own in _grouped(points, name_of).items():
        rims = [p.record.digest in front for p in own]
        axes.scatter(
            [p.peak_bytes / MIB for p in own],
            [p.tokens_per_s for p in own],
            s=[(3 + math.log2(max(p.candidate.length / 64, 1)) / 1.5) ** 2 for p in own],
            marker=shapes[version],
            facecolors="none" if is_predicted else colours[name],
            edgecolors=colours[name] if is_predicted else ["black" if rim else colours[name] for rim in rims],
            linewidths=1.2 if is_predicted else 0.6,
            alpha=0.85,
        )
    axes.axvline(budget_bytes / MIB, color="#b3261e", linestyle="--", linewidth=1.2)
    if points:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("peak memory, MB (the dashed line is the budget)")
    axes.set_ylabel(rate_unit(point.candidate for point in points) if points else "tokens/s")
    axes.set_title(f"{study_name}, {format_budget(budget_bytes)}, {describe_device(device)}")
    axes.grid(alpha=0.3)
    entries = [Line2D([], [], marker="o", linestyle="", color=colours[n], label=n) for n in names]
    entries += [
        Line2D(
            [], [], marker=shapes[v], linestyle="", color="0.4", markerfacecolor="none", label=f"{v} kernels"
        )
        for v in versions
        if v
    ]
    if entries:
        figure.legend(handles=entries, loc="upper left", bbox_to_anchor=(0.765, 0.94), frameon=False)
    return figure


def _grouped(
    points: Sequence[Point], name_of: Callable[[Candidate], str]
) -> dict[tuple[str, str, bool], list[Point]]:
    """By model, kernel version, and whether predicted."""
    groups: dict[tuple[str, str, bool], list[Point]] = {}
    for point in points:
        is_predicted = point.record.measurement.predicted is not None
        key = name_of(point.candidate), point.candidate.version, is_predicted
        groups.setdefault(key, []).append(point)
    return groups
