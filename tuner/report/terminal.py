"""What is printed at the end of a run: the frontier, how the trials ended, and where the files are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from ..frontier import Point
from ..outcome import Outcome
from ..record import Record
from ..sizes import format_budget
from .facts import describe_device, describe_gpus
from .tables import frontier_table, shared_settings


def render_frontier(front: Sequence[Point]) -> str:
    """The frontier as a table for a terminal, with its device and what all rows share above it.

    Raises: ValueError for an empty frontier, which has no device.
    """
    if not front:
        raise ValueError("front: expected at least one point")
    device = front[0].record.measurement.device
    kind = device.kind if device is not None else "unknown"
    title = "Frontier" if device is None else f"Frontier on {describe_device(device)}"
    headers, rows, align = frontier_table(front)
    sides = ["right" if letter == "r" else "left" for letter in align]
    table = tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True, colalign=sides)
    shared = shared_settings([p.record for p in front], kind)
    budget = format_budget(front[0].record.budget_bytes)
    return f"{title}, budget {budget}\nAll rows: {shared}. 1 MB = 2^20 bytes.\n\n{table}\n"


def render_outcomes(records: Sequence[Record]) -> str:
    """One line of counts, one of the GPUs if there were several, then a sentence for each way in which
    candidates failed."""
    counts = Counter(r.measurement.outcome for r in records)
    pruned = sum(n for outcome, n in counts.items() if outcome.is_memory)
    failed = len(records) - pruned - counts[Outcome.OK]
    lines = [
        f"{len(records)} configurations: {counts[Outcome.OK]} measured, {pruned} did not fit, {failed} failed"
    ]
    gpus = describe_gpus(records)
    if gpus is not None:
        lines.append(f"  measured on {gpus}")
    lines.extend(
        f"  {outcome.value}: {counts[outcome]}; {outcome.advice}"
        for outcome in Outcome
        if counts[outcome] and outcome is not Outcome.OK
    )
    return "\n".join(lines) + "\n"


def render_files(run_root: Path, recommended: Sequence[Path]) -> str:
    """Where the results are, and the command that uses the first of them."""
    lines = [f"Report:       {run_root / 'report.md'}", f"All trials:   {run_root / 'trials.csv'}"]
    lines.extend(f"Recommended:  {path}" for path in recommended)
    if recommended:
        lines += ["", f"Next:  phase8-train {recommended[0]} --data FILE"]
    return "\n".join(lines) + "\n"
