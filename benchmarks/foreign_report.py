"""What the comparison of foreign models shows: a summary for machines, a report for people."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

Row = dict[str, Any]
_MIB = 1 << 20


def off_by(row: Row, key: str) -> float | None:
    """Predicted over measured, less one; None where either is missing."""
    measured, predicted = row["measured"].get(key), row.get(key)
    return None if measured is None or predicted is None else predicted / measured - 1


def compare(rows: Sequence[Row]) -> Row:
    """Shares and worst cases; `decisions` of what was predicted alone."""
    ran = [row for row in rows if row["measured"].get("allocated_bytes") is not None]
    errors = {
        key: [abs(off) for row in ran if (off := off_by(row, key)) is not None]
        for key in ("allocated_bytes", "reserved_bytes")
    }
    decided = [
        (row["fits"][cap], fits)
        for row in ran
        if "fits" in row
        for cap, fits in row["measured"].get("fits_under", {}).items()
        if fits is not None
    ]
    summary: Row = {
        "configurations": len(rows),
        "measured": len(ran),
        "failed": sum("failed" in row["measured"] for row in rows),
        "not_predicted": sum("not_predicted" in row for row in rows),
        "decisions": len(decided),
        "decisions_right": sum(ours == theirs for ours, theirs in decided),
        "launched_out_of_memory": sum(ours and not theirs for ours, theirs in decided),
        "fitting_skipped": sum(theirs and not ours for ours, theirs in decided),
    }
    for key, values in errors.items():
        if values:
            summary[key] = {
                "within_1_percent": sum(value <= 0.01 for value in values) / len(values),
                "median": statistics.median(values),
                "worst": max(values),
            }
    return summary


def report_of(rows: Sequence[Row]) -> str:
    """The report: the summary, and every configuration."""
    summary = compare(rows)
    lines = ["# Models that are not ours, predicted and measured", ""]
    lines += [f"- {name}: {value}" for name, value in summary.items()]
    table = [
        [
            row["model"],
            row["batch"],
            *row["axes"].values(),
            _mib(row.get("allocated_bytes")),
            _mib(row["measured"].get("allocated_bytes")),
            _percent(off_by(row, "allocated_bytes")),
            _percent(off_by(row, "reserved_bytes")),
            row.get("peak_op") or row.get("not_predicted", "")[:60],
            "" if "failed" not in row["measured"] else str(row["measured"]["failed"])[:80],
        ]
        for row in rows
    ]
    headers = ["model", "batch", "size", "n_seq", "precision", "checkpointing", "optimizer"]
    headers += ["predicted MB", "measured MB", "allocated", "reserved", "peak", "failed"]
    lines += ["", tabulate(table, headers=headers, tablefmt="github"), ""]
    return "\n".join(lines)


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / _MIB:,.1f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:+.2%}"
