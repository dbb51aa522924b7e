"""What `optimizer_state.py` measured, as tables: memory and time of a step, and how far curves are apart."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from .optimizer_state_contestants import EXACT

LIMIT = 0.005
"""How far from float32's a loss may end."""
_LAST_POINTS = 4
_CURVE = re.compile(r"(?P<model>\S+) seed (?P<seed>\d+) (?P<contestant>.+)")


def differences(curves: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Of each size and contestant, a pair a seed: how much the loss at the end, of training and of held-out
    text, is over that of float32 from the same seed, as a share of it."""
    ends: dict[tuple[str, str, str], tuple[float, float]] = {}
    for name, curve in curves.items():
        found = _CURVE.fullmatch(name)
        assert found is not None, name
        last = statistics.fmean(curve["losses_nats"][-_LAST_POINTS:])
        ends[found["model"], found["seed"], found["contestant"]] = last, curve["held_out_nats"]
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for (model, seed, contestant), end in ends.items():
        exact = ends.get((model, seed, EXACT.name))
        if exact is not None and contestant != EXACT.name:
            training, held_out = (one / other - 1 for one, other in zip(end, exact, strict=True))
            pairs.setdefault((model, contestant), []).append((training, held_out))
    return pairs


def report(results: Mapping[str, Any]) -> str:
    """The whole report."""
    steps = [
        [
            model,
            name,
            f"{found['bytes_a_parameter']:.2f}",
            f"{found['step_s']['median_s'] * 1e3:.3f}",
            f"[{found['step_s']['low_s'] * 1e3:.3f}, {found['step_s']['high_s'] * 1e3:.3f}]",
        ]
        for model, contestants in results["steps"].items()
        for name, found in contestants.items()
    ]
    curves = []
    for (model, contestant), pairs in differences(results["curves"]).items():
        training, held_out = zip(*pairs, strict=True)
        most = max(map(abs, (*training, *held_out)))
        curves.append(
            [
                model,
                contestant,
                len(pairs),
                f"{statistics.fmean(training):+.3%}",
                f"{statistics.fmean(held_out):+.3%}",
                f"{most:.3%}",
                "yes" if most <= LIMIT else "no",
            ]
        )
    step_headers = ("size", "optimizer", "bytes a parameter", "ms a step", "95 %")
    curve_headers = (
        *("size", "optimizer", "seeds", "training loss", "held-out loss", "largest of any seed"),
        f"within {LIMIT:.1%}",
    )
    return f"""# AdamW with a small state: memory, time and curves on {results["gpu"]}

Weights, gradients and state as they are allocated after a step, over the model's parameters; clipping and the
optimizer's step alone, device time, contestants in turns.

{tabulate(steps, headers=step_headers, tablefmt="github")}

Loss after {results["steps_of_a_curve"]:,} steps against {EXACT.name} from the same seed, on the same batches:
the mean of the last {_LAST_POINTS} points of 50 steps, and held-out text at the end. Plus is worse.

{tabulate(curves, headers=curve_headers, tablefmt="github")}
"""
