"""The prediction benchmark in figures: errors, decisions, throughput; and as a table."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from ..tuner.predict.throughput import MeasuredStep, correct

LEARNED_FROM = 10


def summary_of(
    rows: Sequence[dict[str, Any]], caps: Sequence[dict[str, Any]], processes: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Errors, decisions and throughput in figures.

    rows: one a configuration, at least one; caps: one a decision; processes: one a process seen by NVML.
    """
    points = [
        MeasuredStep(
            kernel_version=row["candidate"]["kernel_version"],
            limited_by=row["limited_by"],
            estimated_s=row["predicted_step_s"],
            measured_s=row["measured_step_s"],
        )
        for row in rows
    ]
    correction = correct(points[:LEARNED_FROM])
    left = [
        p.log_ratio - correction.log_factor(p.kernel_version, p.limited_by) for p in points[LEARNED_FROM:]
    ]
    launched = [d for d in caps if d["is_launched"]]
    return {
        "configurations": len(rows),
        "allocated_abs_error": _quantiles([abs(row["allocated_error"]) for row in rows]),
        "reserved_abs_error": _quantiles([abs(row["reserved_error"]) for row in rows]),
        "allocated_within_1_percent": _share(abs(row["allocated_error"]) <= 0.01 for row in rows),
        "reserved_within_2_percent": _share(abs(row["reserved_error"]) <= 0.02 for row in rows),
        "process_abs_error_max": max((abs(p["error"]) for p in processes), default=None),
        "decisions": len(caps),
        "wrong_without_margin": sum(d["fits"] != d["predicted_fits"] for d in caps),
        "fitting_but_skipped": sum(d["fits"] and not d["is_launched"] for d in caps),
        "launched": len(launched),
        "launched_out_of_memory": sum(not d["fits"] for d in launched),
        "throughput_spearman": _spearman(
            [
                row["candidate"]["batch_size"] * row["candidate"]["n_seq"] / row["predicted_step_s"]
                for row in rows
            ],
            [
                row["candidate"]["batch_size"] * row["candidate"]["n_seq"] / row["measured_step_s"]
                for row in rows
            ],
        ),
        "throughput_median_error": statistics.median(abs(math.expm1(p.log_ratio)) for p in points),
        "throughput_median_error_after_ten": statistics.median(abs(math.expm1(v)) for v in left)
        if left
        else None,
    }


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
            f"{row['predicted_allocated_bytes'] / 2**20:,.1f}",
            f"{row['measured_allocated_bytes'] / 2**20:,.1f}",
            f"{100 * row['allocated_error']:+.2f}",
            f"{row['predicted_reserved_bytes'] / 2**20:,.0f}",
            f"{row['measured_reserved_bytes'] / 2**20:,.0f}",
            f"{100 * row['reserved_error']:+.2f}",
            f"{1e3 * row['predicted_step_s']:.1f}",
            f"{1e3 * row['measured_step_s']:.1f}",
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
