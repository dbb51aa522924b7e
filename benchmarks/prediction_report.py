"""The prediction benchmark in figures: errors, decisions, throughput; and as a table."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from ..tuner.predict.rate.throughput import MeasuredStep, correct

LEARNED_FROM = 10
DRAWS = 200
"""Of ten configurations to learn from, other than the first ten."""


def summary_of(
    rows: Sequence[dict[str, Any]], caps: Sequence[dict[str, Any]], processes: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Errors, decisions and throughput in figures, of what was measured.

    rows: one a configuration, at least one; caps: one a decision; processes: one a process seen by NVML.
    """
    summary: dict[str, Any] = {"configurations": len(rows)}
    if "measured_reserved_bytes" in rows[0]:
        summary |= _memory(rows, caps, processes)
    if "measured_step_s" in rows[0]:
        summary |= _throughput(rows)
    return summary


def _memory(
    rows: Sequence[dict[str, Any]], caps: Sequence[dict[str, Any]], processes: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    launched = [d for d in caps if d["is_launched"]]
    return {
        "allocated_abs_error": _quantiles([abs(row["allocated_error"]) for row in rows]),
        "reserved_abs_error": _quantiles([abs(row["reserved_error"]) for row in rows]),
        "allocated_within_1_percent": _share(abs(row["allocated_error"]) <= 0.01 for row in rows),
        "reserved_within_2_percent": _share(abs(row["reserved_error"]) <= 0.02 for row in rows),
        "processes": len(processes),
        "process_abs_error_max": max((abs(p["error"]) for p in processes), default=None),
        "decisions": len(caps),
        "wrong_without_margin": sum(d["fits"] != d["predicted_fits"] for d in caps),
        "fitting_but_skipped": sum(d["fits"] and not d["is_launched"] for d in caps),
        "launched": len(launched),
        "launched_out_of_memory": sum(not d["fits"] for d in launched),
    }


def _throughput(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    points = [
        MeasuredStep(
            kernel_version=row["candidate"]["kernel_version"],
            limited_by=row["limited_by"],
            estimated_s=row["predicted_step_s"],
            measured_s=row["measured_step_s"],
        )
        for row in rows
    ]
    tokens = [row["candidate"]["batch_size"] * row["candidate"]["n_seq"] for row in rows]
    summary: dict[str, Any] = {
        "throughput_spearman": _spearman(
            [count / point.estimated_s for count, point in zip(tokens, points, strict=True)],
            [count / point.measured_s for count, point in zip(tokens, points, strict=True)],
        ),
        "throughput_median_error": statistics.median(abs(math.expm1(p.log_ratio)) for p in points),
    }
    if len(points) > LEARNED_FROM:
        chance = random.Random(0)
        draws = [sorted(chance.sample(range(len(points)), LEARNED_FROM)) for _ in range(DRAWS)]
        errors = [_error_after(points, draw) for draw in draws]
        summary["throughput_median_error_after_ten"] = _error_after(points, range(LEARNED_FROM))
        summary["throughput_median_error_after_other_tens"] = statistics.median(errors)
    return summary


def _error_after(points: Sequence[MeasuredStep], known: Sequence[int]) -> float:
    """The median error of the others, corrected by those known."""
    correction = correct([points[index] for index in known])
    return statistics.median(
        abs(math.expm1(p.log_ratio - correction.log_factor(p.kernel_version, p.limited_by)))
        for index, p in enumerate(points)
        if index not in known
    )


def _share(values: Any) -> float:
    return statistics.fmean(map(float, values))


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        name: ordered[min(int(share * len(ordered)), len(ordered) - 1)]
        for name, share in (("median", 0.5), ("p90", 0.9), ("p95", 0.95), ("max", 1.0))
    }


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """None for a single configuration, which has no rank among others."""
    if len(first) < 2:
        return None

    def ranks(values: Sequence[float]) -> list[float]:
        order = sorted(range(len(values)), key=values.__getitem__)
        found = [0.0] * len(values)
        for rank, index in enumerate(order):
            found[index] = float(rank)
        return found

    return statistics.correlation(ranks(first), ranks(second))


def report_of(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> str:
    """The summary and a line a configuration, as Markdown."""
    table = [
        (
            row["description"],
            *_compared(row, "allocated", "{:,.1f}", "{:+.2f}"),
            *_compared(row, "reserved", "{:,.0f}", "{:+.2f}"),
            f"{1e3 * row['predicted_step_s']:.1f}",
            f"{1e3 * row['measured_step_s']:.1f}" if "measured_step_s" in row else "",
            row["limited_by"],
        )
        for row in rows
    ]
    headers = (
        "configuration", "allocated, predicted MB", "measured", "%",
        "reserved, predicted MB", "measured", "%",
        "step, predicted ms", "measured", "limited by",
    )  # fmt: skip
    lines = [f"- {name}: {json.dumps(value)}" for name, value in summary.items()]
    head = "# Predicted against measured\n\nMB are 2^20 bytes.\n"
    return "\n".join(
        [head, *lines, "", tabulate(table, headers=headers, tablefmt="github", disable_numparse=True)]
    )


def _compared(row: dict[str, Any], name: str, size: str, error: str) -> tuple[str, str, str]:
    """Predicted and measured MB and the error in percent; nothing for what was not measured."""
    predicted = size.format(row[f"predicted_{name}_bytes"] / 2**20)
    if f"measured_{name}_bytes" not in row:
        return predicted, "", ""
    return (
        predicted,
        size.format(row[f"measured_{name}_bytes"] / 2**20),
        error.format(100 * row[f"{name}_error"]),
    )
