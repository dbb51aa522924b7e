"""What `registers.py` found, as tables: all kernels, and the two tables that kernels/README.md shows.

    python -m phase8_tune.benchmarks.registers_report studies/results/FOLDER

prints those two again from the results that are there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..tuner.predict.rate.abilities import SHARED_MEMORY_BYTES

VERSION = "fast"
SMALL_CARD = 86
SPILL_LIMIT_BYTES = 64
"""What a thread of a costly kernel may keep in local memory: 16 registers, which the nearest cache holds."""

_REGISTERS, _WARPS, _SHARED_BYTES = 65_536, 48, 102_400
"""Of a multiprocessor of `SMALL_CARD`. Source: CUDA C++ Programming Guide, "Technical Specifications per
Compute Capability"."""
_REGISTERS_A_WARP, _SHARED_A_BLOCK = 256, 1024  # what registers of a warp are rounded to; what a block adds


def to_rows(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each kernel, architecture and preset: the versions that launch it, and the worst of its
    forms.

    found: lines of a form each, with its version and model.
    """
    rows: dict[tuple[int, str, str], dict[str, Any]] = {}
    keys: dict[tuple[int, str, str], set[str]] = {}
    for line in found:
        place = line["architecture"], line["kernel"], line["model"]
        row = rows.setdefault(
            place,
            {"architecture": place[0], "kernel": place[1], "model": place[2], "versions": []}
            | dict.fromkeys(("forms", "registers", "stack_bytes", "shared_bytes", "warps"), 0),
        )
        if line["version"] not in row["versions"]:
            row["versions"].append(line["version"])
        seen = keys.setdefault(place, set())
        seen.add(line["key"])
        row["forms"] = len(seen)
        for name in ("registers", "stack_bytes", "shared_bytes", "warps"):
            row[name] = max(row[name], line[name])
    return list(rows.values())


def limit_bytes(architecture: int) -> int:
    """Shared memory that a block of threads may use."""
    return SHARED_MEMORY_BYTES[f"{architecture // 10}.{architecture % 10}"]


def warps_a_multiprocessor(row: Mapping[str, Any]) -> int:
    """How many of its warps the small card's multiprocessor holds: by registers, shared memory, threads."""
    of_warp = -(-32 * row["registers"] // _REGISTERS_A_WARP) * _REGISTERS_A_WARP
    by_registers = _REGISTERS // of_warp // row["warps"]
    by_shared = _SHARED_BYTES // (row["shared_bytes"] + _SHARED_A_BLOCK)
    return int(min(by_registers, by_shared, _WARPS // row["warps"])) * int(row["warps"])


def summary(rows: Sequence[Mapping[str, Any]], cards: Mapping[str, str], versions: Sequence[str]) -> str:
    """By architecture and version: the most of everything, and which kernels spill more than the limit."""
    table = []
    for architecture in cards:
        for version in versions:
            here = [
                row for row in rows if row["architecture"] == int(architecture) and version in row["versions"]
            ]
            if not here:
                continue
            largest = max(here, key=lambda row: int(row["shared_bytes"]))
            spilling = {
                row["kernel"]: row["stack_bytes"]
                for row in sorted(here, key=lambda row: int(row["stack_bytes"]))
                if row["stack_bytes"] > SPILL_LIMIT_BYTES
            }
            table.append(
                [
                    f"sm_{architecture} ({cards[architecture]})",
                    version,
                    len({row["kernel"] for row in here}),
                    sum(row["registers"] == 255 for row in here),
                    ", ".join(f"`{short(name)}` {size}" for name, size in spilling.items()) or "none",
                    f"{largest['shared_bytes']:,} of {limit_bytes(int(architecture)):,}, "
                    f"`{short(largest['kernel'])}`",
                ]
            )
    headers = (
        *("compiled for", "version", "kernels", "at 255 registers", f"spill over {SPILL_LIMIT_BYTES} bytes"),
        "most shared memory of a block, bytes",
    )
    return tabulate(table, headers=headers, tablefmt="github")


def costliest(results: Mapping[str, Any]) -> str:
    """The costliest kernels of `fast` on the small card, of each preset by predicted time, with what they
    take."""
    table = []
    for model, kernels in results["costliest"].items():
        for name, share in kernels.items():
            row = row_of(results["kernels"], name, model)
            table.append(
                [
                    model, f"`{short(name)}`", f"{share:.1%}", row["warps"], row["registers"],
                    row["stack_bytes"], f"{row['shared_bytes']:,}", warps_a_multiprocessor(row),
                ]
            )  # fmt: skip
    headers = (
        *("preset", "kernel", "of a step, predicted", "warps a block", "registers a thread"),
        *("spilled bytes", "shared bytes", f"warps a multiprocessor, of {_WARPS}"),
    )
    return tabulate(table, headers=headers, tablefmt="github")


def row_of(rows: Iterable[Mapping[str, Any]], kernel: str, model: str) -> Mapping[str, Any]:
    """The row of a kernel of `fast` on the small card."""
    return next(
        row
        for row in rows
        if (row["architecture"], row["kernel"], row["model"]) == (SMALL_CARD, kernel, model)
    )


def short(kernel: str) -> str:
    """folder.kernel: the module in between says nothing to who does not read it, but where two are alike."""
    folder, module, name = kernel.split(".")
    return f"{folder}.{name}" if name not in _AMBIGUOUS else f"{folder}.{module}.{name}"


_AMBIGUOUS = frozenset({"forward_kernel", "query_kernel", "key_kernel", "sum_parts_kernel"})
"""Names that several modules of a folder have."""


def shown(results: Mapping[str, Any]) -> str:
    """What kernels/README.md shows."""
    return f"{summary(results['kernels'], results['cards'], [VERSION])}\n\n{costliest(results)}\n"


def report(results: Mapping[str, Any]) -> str:
    """The whole report."""
    rows, cards = results["kernels"], results["cards"]
    versions = list(dict.fromkeys(version for row in rows for version in row["versions"]))
    whole = [
        [
            row["model"], f"`{short(row['kernel'])}`", ", ".join(row["versions"]), row["forms"], row["warps"],
            row["registers"], row["stack_bytes"], f"{row['shared_bytes']:,}",
        ]
        for row in rows
        if row["architecture"] == SMALL_CARD
    ]  # fmt: skip
    headers = ("preset", "kernel", "versions", "forms", "warps", "registers", "spilled bytes", "shared bytes")
    costly = f"""
The costliest kernels of `{VERSION}` on sm_{SMALL_CARD}; what a step spends on each is predicted for the card
from its specification, not measured. A multiprocessor holds so many warps of them by registers, shared memory
and threads.

{costliest(results)}
"""
    return f"""# Registers, spills and shared memory of kernels, on cards that were not there

Compiled by Triton's ptxas without a GPU: every form of the kernels below that a training step and an
evaluation launch at {results["batch"]}×{results["n_seq"]}, in bfloat16, with the blocks that the named card's
shared memory and multiprocessors choose. Nothing was run. A kernel counts with the worst of its forms.

{summary(rows, cards, versions)}
{costly if results["costliest"] else ""}
All kernels on sm_{SMALL_CARD}:

{tabulate(whole, headers=headers, tablefmt="github")}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(shown(json.loads((arguments.folder / "results.json").read_text(encoding="utf-8"))), end="")


if __name__ == "__main__":
    main()
