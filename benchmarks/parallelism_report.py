"""What `parallelism.py` found, as tables.

    python -m phase8_tune.benchmarks.parallelism_report studies/results/FOLDER

prints those that kernels/README.md shows again, from the results that are there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate


def table(cases: Mapping[str, Mapping[str, Mapping[str, int]]], multiprocessors: int) -> str:
    """Kernels of one model, of each case launches, programs × warps and the chain; those that leave
    multiprocessors empty or whose chain grows with the row first.

    cases: "batch×n_seq" → kernel → what `parallelism.launched` found.
    """
    names = list(dict.fromkeys(name for kernels in cases.values() for name in kernels))
    names.sort(key=lambda name: not is_serial(name, cases, multiprocessors))
    rows = [
        [f"`{name}`", *(_cell(kernels.get(name), multiprocessors) for kernels in cases.values())]
        for name in names
    ]
    return tabulate(rows, headers=["kernel", *cases], tablefmt="github")


def is_serial(name: str, cases: Mapping[str, Mapping[str, Mapping[str, int]]], multiprocessors: int) -> bool:
    """Whether a kernel of the last case, the longest row, leaves multiprocessors empty."""
    last = list(cases.values())[-1].get(name)
    return last is not None and last["programs"] < multiprocessors


def _cell(row: Mapping[str, int] | None, multiprocessors: int) -> str:
    if row is None:
        return "–"
    few = "**" if row["programs"] < multiprocessors else ""
    return f"{row['launches']} · {few}{row['programs']:,}{few} × {row['warps']} · {row['chain']:,}"


def shown(results: Mapping[str, Any]) -> str:
    """What kernels/README.md shows: of the first model those whose chain depends on how the tokens lie."""
    cases = next(iter(results["models"].values()))
    changing = {
        name: {kernels[name]["chain"] if name in kernels else None for kernels in cases.values()}
        for name in dict.fromkeys(name for kernels in cases.values() for name in kernels)
    }
    kept = {
        case: {name: row for name, row in kernels.items() if len(changing[name]) > 1}
        for case, kernels in cases.items()
    }
    return table(kept, results["multiprocessors"]) + "\n"


def report(results: Mapping[str, Any]) -> str:
    """The whole report."""
    models = "\n".join(
        f"{model}:\n\n{table(cases, results['multiprocessors'])}\n"
        for model, cases in results["models"].items()
    )
    return f"""# What each kernel of a step has to fill a card with, as many short rows and as one long one

Recorded on the meta device for a card of {results["multiprocessors"]} multiprocessors; nothing was run. A
cell is launches a step · programs × warps of one · steps that a program takes one after the other (tokens of
a scan, tiles of a loop). In bold: fewer programs than multiprocessors. PyTorch's own kernels are not in it.

{models}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(shown(json.loads((arguments.folder / "results.json").read_text(encoding="utf-8"))), end="")


if __name__ == "__main__":
    main()
