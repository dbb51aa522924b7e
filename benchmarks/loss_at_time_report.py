"""The report of `loss_at_time`: a table, and a plot of the held-out loss over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from ..tuner.values.atomic_write import write_atomically
from .loss_texts import PACKAGES

_TITLES = {"phase8": "Phase 8", "phase7": "Phase 7", "transformer": "transformer"}
_COLOURS = {"phase8": "C0", "phase7": "C2", "transformer": "C1"}
_SHARES = (0.25, 0.5, 1.0)  # of the time, at which the table shows the loss


def best_of(curves: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The curve with the lowest last loss held out, of those that did not diverge where there are any."""
    return min(curves, key=lambda curve: (curve["has_diverged"], curve["points"][-1]["loss"]))


def loss_at(curve: dict[str, Any], elapsed_s: float) -> float:
    """Held-out loss at a time, straight between two points."""
    times = [point["elapsed_s"] for point in curve["points"]]
    return float(np.interp(elapsed_s, times, [point["loss"] for point in curve["points"]]))


def grouped(curves: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Curves by size and model, in the order in which they come."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for curve in curves:
        found.setdefault((curve["size"], curve["plan"]["model"]), []).append(curve)
    return found


def write_report(folder: Path, curves: Sequence[dict[str, Any]], missing: int) -> str:
    """Write report.md and loss.png into a folder; returns the table, empty where nothing was trained."""
    if not curves:
        return ""
    seconds = curves[0]["seconds"]
    rows = []
    for (size, model), alike in grouped(curves).items():
        best = best_of(alike)
        last = best["points"][-1]["loss"]
        rates = ", ".join(f"{c['peak_rate']:g}: " + _outcome(c) for c in alike)
        rows.append(
            [
                f"{_TITLES[model]} {best['plan']['size']}",
                size,
                f"{best['parameters'] / 1e6:.2f}",
                f"{best['batch']}×{best['plan']['n_seq']}",
                f"{best['tokens_per_s'] / 1e3:,.0f}",
                f"{best['tokens'] / 1e6:,.1f}",
                f"{best['tokens'] / best['text_tokens']:.1f}",
                *(f"{loss_at(best, share * seconds):.3f}" for share in _SHARES),
                f"{last / np.log(2) / best['bytes_per_token']:.3f}",
                rates,
            ]
        )
    headers = ["model", "size", "M parameters", "batch", "k tokens/s", "M tokens", "passes"]
    headers += [f"loss at {share * seconds:g} s" for share in _SHARES]
    headers += ["bits a byte", "rate: loss at the end"]
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    _draw(folder / "loss.png", curves)
    write_atomically(folder / "report.md", _text(curves, table, missing))
    return table


def _outcome(curve: dict[str, Any]) -> str:
    return "diverged" if curve["has_diverged"] else f"{curve['points'][-1]['loss']:.3f}"


def _text(curves: Sequence[dict[str, Any]], table: str, missing: int) -> str:
    first = curves[0]
    budget = first["budget_bytes"]
    held = "without a GPU" if budget is None else f"under a budget of {budget / 2**30:.2f} GiB"
    left_out = f"\n{missing} curves that were asked for are missing.\n" if missing else ""
    text = (
        f"{first['text_bytes'] / 1e6:.1f} MB of Python code (the standard library, {', '.join(PACKAGES)}), "
        f"{first['text_tokens'] / 1e6:.1f} M tokens of a byte-level BPE that was trained on it "
        f"({first['plan']['vocab_size']} tokens, {first['bytes_per_token']:.2f} bytes a token held out)"
    )
    return f"""# Loss at the same time

{first["seconds"]:g} seconds of training each, {held}, on {text}.
Every 25th file is held out. The learning rate warms up over a twentieth of the time and falls to a tenth
along a cosine; AdamW, gradients clipped at 1. Of several learning rates the best is shown. The transformer
has about as many parameters as Phase 8 of its size. Compiling, capturing and taking the held-out loss are not
in the time.

{table}
{left_out}
![held-out loss over time](loss.png)

What this does not show: other texts, longer trainings, other batches than the largest that fit, and whether a
learning rate between those tried would be better.
"""


def _draw(path: Path, curves: Sequence[dict[str, Any]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sizes = list(dict.fromkeys(curve["size"] for curve in curves))
    figure = Figure(figsize=(6 * len(sizes), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for place, size in enumerate(sizes):
        axes = figure.add_subplot(1, len(sizes), place + 1)
        for (of, model), alike in grouped(curves).items():
            if of != size:
                continue
            best = best_of(alike)
            for curve in alike:
                points = curve["points"][1:] or curve["points"]
                label = f"{_TITLES[model]} {curve['plan']['size']}, {curve['peak_rate']:g}"
                axes.plot(
                    [point["elapsed_s"] for point in points],
                    [point["loss"] for point in points],
                    color=_COLOURS[model],
                    alpha=1.0 if curve is best else 0.35,
                    label=label if curve is best else None,
                )
        axes.set(title=f"size {size}", xlabel="seconds of training", ylabel="held-out loss, nats a token")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
