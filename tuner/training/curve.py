"""The loss of a training as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..values.atomic_write import replaced_whole


def draw_curve(metrics: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw training and held-out loss against the step; the file's suffix, .svg or .png, is the format.

    metrics: the lines of `metrics.jsonl`.
    Raises: OSError where the file cannot be written.
    """
    from matplotlib.figure import Figure  # loads for half a second

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for key, label, style in (
        ("loss", "training", {"linewidth": 1.0, "alpha": 0.8}),
        ("held_out_loss", "held out", {"linewidth": 1.6, "marker": "o", "markersize": 3}),
    ):
        points = [(line["step"], line[key]) for line in metrics if key in line]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, **style)
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy, nats a token")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    with replaced_whole(path) as draft:
        figure.savefig(draft, format=path.suffix.removeprefix("."), dpi=150)
