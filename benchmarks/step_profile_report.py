"""What `step_profile.py` measured, as tables.

    python -m phase8_tune.benchmarks.step_profile_report studies/results/FOLDER

writes report.md there again, from the results that are there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .step_profile_rows import floor_s

_SHOWN = 30


def summary(results: Mapping[str, Any]) -> str:
    """A row for each case."""
    table = []
    for name, case in results["cases"].items():
        busy = sum(row["s"] for row in case["rows"])
        floor = sum(floor_s(row, results["ceilings"]) for row in case["rows"])
        table.append(
            [
                name, f"{case['tokens'] / case['step_s']:,.0f}", f"{case['step_s'] * 1e3:.2f}",
                f"{busy * 1e3:.2f}", f"{case['idle_s'] * 1e3:.2f}", case["kernels_a_step"],
                f"{floor * 1e3:.2f}", f"{floor / case['step_s']:.0%}",
                f"{case['peak_reserved_bytes'] / 2**20:,.0f}",
            ]
        )  # fmt: skip
    headers = (
        *("case", "tokens/s", "step, ms", "in kernels, ms", "between them, ms", "kernels", "floor, ms"),
        *("of the floor", "peak reserved MB"),
    )
    return tabulate(table, headers=headers, tablefmt="github", disable_numparse=True)


def kernels(case: Mapping[str, Any], ceilings: Mapping[str, float]) -> str:
    """The longest rows of a case."""
    table = []
    for row in case["rows"][:_SHOWN]:
        floor, rate = floor_s(row, dict(ceilings)), row["operations"] / row["s"]
        table.append(
            [
                f"`{row['label']}`", f"{row['launches']:.0f}", f"{row['s'] * 1e3:.3f}",
                f"{row['s'] / case['step_s']:.1%}",
                f"{row['moved_bytes'] / row['s'] / 1e9:,.0f}",
                f"{rate / 1e12:,.1f}{'' if row['is_matrix'] else ' (vector)'}" if rate else "",
                f"{floor * 1e3:.3f}", f"{row['s'] / floor:.1f}" if floor else "",
            ]
        )  # fmt: skip
    headers = ("kernel", "launches", "ms", "of the step", "GB/s", "Top/s", "floor, ms", "times its floor")
    return tabulate(table, headers=headers, tablefmt="github", disable_numparse=True)


def report(results: Mapping[str, Any]) -> str:
    """The whole report."""
    ceilings = results["ceilings"]
    parts = "\n\n".join(f"## {name}\n\n{kernels(case, ceilings)}" for name, case in results["cases"].items())
    return f"""# Where the time of a captured step goes

A step of `fast` in bfloat16, replayed from its graph: timed without a profiler, and kernel by kernel with
one. A floor is the larger of two: bytes at {ceilings["bytes_per_s"] / 1e12:.2f} TB/s, which a copy reached in
this run, and matrix operations at {ceilings["flop_per_s"] / 1e12:.0f} TFLOP/s, which a product reached; a
tensor counts once a kernel that reads or writes it, cache or not. "products after X" and "others after X" are
PyTorch's kernels between a launch of X and the next launch of ours; the last are clipping and the optimizer.

{summary(results)}

{parts}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    (folder / "report.md").write_text(report(results), encoding="utf-8")


if __name__ == "__main__":
    main()
