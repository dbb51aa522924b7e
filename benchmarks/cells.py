"""Whether a search recommended the best batch: ten and more batches of every recommended cell, measured.

    python -m phase8_tune.benchmarks.cells RUN [--batches 12] [--rounds 2] [--seconds 300] [--output DIR]

RUN is a run's folder whose search has ended on this card. Of every model's recommended configuration the
batches up to the largest that was launched are measured, all else equal, in rounds: every batch once, then
every batch again, the recommended among them, so that what drifts drifts for all. Prints a line a cell, and
one of JSON; --output writes both with the environment into DIR.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..tuner.measuring.worker_measurer import WorkerMeasurer
from ..tuner.predict.rate.calibration import known_profile
from ..tuner.records.frontier import Point
from ..tuner.records.journal import read_records
from ..tuner.records.results import Results
from ..tuner.records.run_directory import RunPaths
from ..tuner.values.candidate import Candidate
from ..tuner.values.measurement import Measurement
from ..tuner.values.timing import Timing
from .environment import environment

Measure = Callable[[Candidate], Measurement]

_SHARES = (1.0, 0.97, 0.94, 0.9, 0.86, 0.82, 0.78, 0.72, 0.65, 0.55, 0.45, 0.35, 0.25, 0.15)


def batches_below(largest: int, recommended: int, count: int) -> list[int]:
    """So many batches up to the largest, most of them near to it, the recommended among them."""
    chosen = {recommended}
    for share in _SHARES:
        if len(chosen) < count:
            chosen.add(max(round(largest * share), 1))
    batch = largest
    while len(chosen) < min(count, largest):  # a small largest has few shares that differ
        chosen.add(batch)
        batch -= 1
    return sorted(chosen)


def largest_launched(results: Results, point: Point) -> int:
    """The largest batch of a point's line that was measured and fitted."""
    line = point.candidate.line()
    return max(p.candidate.batch_size for p in results.points if p.candidate.line() == line)


def measure_cells(
    results: Results, measure: Measure, count: int, rounds: int, is_over: Callable[[], bool]
) -> list[dict[str, Any]]:
    """Of every recommended point what its cell's batches did; of those that were measured in time."""
    cells: list[dict[str, Any]] = []
    for point in results.recommended:
        recommended = point.candidate.batch_size
        batches = batches_below(largest_launched(results, point), recommended, count)
        rates = _in_rounds(point.candidate, batches, measure, rounds, is_over)
        means = {batch: statistics.fmean(each) for batch, each in rates.items() if each}
        if recommended not in means or len(means) < 2:
            continue
        best = max(means, key=lambda batch: means[batch])
        cells.append(
            {
                "candidate": point.candidate.to_dict(),
                "recommended": recommended,
                "best": best,
                "behind": 1 - means[recommended] / means[best],
                "tokens_per_s": {str(batch): rate for batch, rate in means.items()},
                "rounds": min(map(len, rates.values())),
            }
        )
    return cells


def _in_rounds(
    candidate: Candidate, batches: Sequence[int], measure: Measure, rounds: int, is_over: Callable[[], bool]
) -> dict[int, list[float]]:
    """Tokens a second by batch, as often as the time allowed."""
    rates: dict[int, list[float]] = {batch: [] for batch in batches}
    for batch in (*batches,) * rounds:
        if is_over():
            break
        asked = candidate.at(batch)
        found = measure(asked)
        if found.samples_s:
            rates[batch].append(found.tokens_per_s(asked.items_per_step)[0])
    return rates


def summary_of(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How far the recommended batches are behind the best, as shares."""
    behind = [cell["behind"] for cell in cells]
    return {
        "cells": len(cells),
        "batches_at_least": min((len(cell["tokens_per_s"]) for cell in cells), default=0),
        "behind_mean": statistics.fmean(behind) if behind else None,
        "behind_worst": max(behind, default=None),
    }


def table_of(cells: Iterable[dict[str, Any]]) -> str:
    rows = [
        (
            Candidate.from_dict(cell["candidate"]).describe(),
            len(cell["tokens_per_s"]),
            f"{cell['tokens_per_s'][str(cell['recommended'])]:,.0f}",
            cell["best"],
            f"{cell['tokens_per_s'][str(cell['best'])]:,.0f}",
            f"{cell['behind']:.2%}",
        )
        for cell in cells
    ]
    headers = ("recommended", "batches", "its tokens/s", "best batch", "its tokens/s", "behind")
    return tabulate(rows, headers=headers, tablefmt="github")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=300.0, help="of measuring")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    records = read_records(RunPaths(root=arguments.run).journal)
    results, ran_on = Results.of(records), environment()
    if not results.recommended:
        parser.error(f"{arguments.run}: expected a run with recommendations that were measured, got none")
    budget_bytes = records[0].budget_bytes
    profile = known_profile(str(ran_on.get("gpu")))
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        WorkerMeasurer(
            device="cuda" if "gpu" in ran_on else "cpu",
            budget_bytes=budget_bytes,
            reserve_bytes=0,
            log_dir=Path(folder),
            timing=Timing(),
            earlier=records,
            outside_bytes=0 if profile is None else profile.outside_bytes,
        ) as measurer,
    ):
        cells = measure_cells(
            results,
            measurer.measure,
            arguments.batches,
            arguments.rounds,
            lambda: time.monotonic() - started > arguments.seconds,
        )
    text = f"{table_of(cells)}\n"
    print(text)
    found = {"budget_bytes": budget_bytes, "summary": summary_of(cells), "cells": cells}
    print(json.dumps(found["summary"]))
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (arguments.output / "environment.json").write_text(
            json.dumps(ran_on, indent=1) + "\n", encoding="utf-8"
        )
        (arguments.output / "report.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
