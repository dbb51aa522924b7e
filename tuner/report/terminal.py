"""What is printed at the end of a run: the frontier, how the trials ended, and where the files are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..records.cells import best_of_cells, describe_ties
from ..records.frontier import Point
from ..records.wording import length_word, rate_unit
from ..search.plan_summary import PlanSummary
from ..values.outcome import Outcome
from ..values.record import Record
from ..values.shell_words import shell_path
from ..values.sizes import format_budget
from ..values.terminal import fill
from .facts import describe_device, describe_gpus
from .fitted_table import SPREAD, fit_table
from .tables import BODY_PARAMETERS, frontier_table, shared_settings

_LESS_IMPORTANT = (
    "Parameters",
    BODY_PARAMETERS,
    "Checkpointing",
    "Precision",
    "Variant",
    "Vocabulary",
    "Kernels",
    "Mode",
)


def render_frontier(
    front: Sequence[Point],
    run_root: Path,
    *,
    is_short: bool = False,
    is_per_cell: bool = False,
    width: int | None = None,
) -> str:
    """The frontier as a table for a terminal, with its device and what all rows share above it.

    is_short: of each model and sequence only the fastest. is_per_cell: it is that of each model and sequence,
    not of all. width: columns of the terminal; None: no limit.
    Raises: ValueError for an empty frontier, which has no device.
    """
    if not front:
        raise ValueError("front: expected at least one point")
    device = front[0].record.measurement.device
    kind = device.kind if device is not None else "unknown"
    length = length_word(point.candidate for point in front)
    per = f"model and {length}" if length else "model"
    title = f"Frontier of each {per}" if is_per_cell else "Frontier"
    if device is not None:
        title += f" {describe_device(device)}"
    shown = list(best_of_cells(front).values()) if is_short else front
    headers, rows, align = frontier_table(shown)
    unit = rate_unit(point.candidate for point in shown).capitalize()
    table = fit_table(
        headers,
        rows,
        align=align,
        width=width,
        order=(*_LESS_IMPORTANT[:2], f"{unit}{SPREAD}", *_LESS_IMPORTANT[2:]),
        shows_all=f"phase8-tune frontier {shell_path(run_root)}{' --per-cell' * is_per_cell} --csv",
    )
    shared = shared_settings([p.record for p in shown], kind)
    budget = format_budget(front[0].record.budget_bytes)
    notes = [f"{title}, budget {budget}", f"All rows: {shared}. 1 MB = 2^20 bytes."]
    if kind == "predicted":
        notes.append(f"{unit} with the interval that should hold nine of ten.")
    notes.extend(f"{line}." for line in describe_ties(shown))
    if len(shown) < len(front):
        notes.append(f"The fastest of each {per}; the report has all {len(front)} of the frontier.")
    return fill("\n".join(notes), width) + f"\n\n{table}\n"


def render_plan(summary: PlanSummary, recorded: int) -> str:
    """One line: how many configurations were decided, how many fit, how many are recorded."""
    return (
        f"Planned, nothing measured: {summary.fit:,} of {summary.configurations:,} configurations are "
        f"predicted to fit with {summary.margin:.0%} to spare; {recorded:,} are recorded.\n"
    )


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


def render_files(run_root: Path, recommended: Sequence[Path], best: Path | None = None) -> str:
    """Where the results are, and the command that uses one of them: the best, or the first recommended."""
    lines = [
        f"To explore:   {run_root / 'report.html'}",
        f"Report:       {run_root / 'report.md'}",
        f"All trials:   {run_root / 'trials.csv'}",
    ]
    lines.extend(f"Recommended:  {path}" for path in recommended)
    settings = [path for path in recommended if path.suffix == ".yaml"]
    if settings:
        lines += ["", f"Next:  phase8-train {shell_path(best or settings[0])} --data FILE"]
    return "\n".join(lines) + "\n"
