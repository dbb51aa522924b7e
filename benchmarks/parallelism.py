"""How much of a card each kernel of a step can fill, and how long its programs' chains are: the same tokens
as many short rows and as one long row. No GPU is asked.

    python -m phase8_tune.benchmarks.parallelism --output DIR [--models small …]

Every Triton launch of a training step of `fast` in bfloat16 is recorded on the meta device with its grid.
The chain of a program is what it does one step after the other, each waiting for the last: tokens of a scan,
tiles of a loop. Prints the tables that kernels/README.md shows, and writes results.json, environment.json and
report.md into DIR.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..phase8.config import preset
from ..phase8.training import Trainer, TrainingOptions
from ..tuner.compiling.dynamo import leave_dynamo_out
from ..tuner.compiling.launches import META, recording
from ..tuner.predict.lines import limits_of
from ..tuner.predict.rate.profiles import gpu_profile
from ..tuner.predict.trace.launches import kernel_name
from .environment import environment
from .parallelism_report import report

CARD, ARCHITECTURE = "h200", 90
CASES: dict[str, tuple[tuple[int, int], ...]] = {
    "small": ((64, 1024), (1, 32768), (1, 131072)),
    "medium": ((16, 1024), (1, 32768), (1, 131072)),
}
"""(batch, n_seq) of each model: short rows first, then one long one."""

_DEFAULT_WARPS = 4  # Triton's, where a launch says none
Arguments = Mapping[str, Any]
Grid = tuple[int, ...]


def chain(name: str, given: Arguments, grid: Grid) -> int:
    """Steps that the longest chain of a program of this launch has, 1 where it has no loop of note.

    name: folder.module.kernel; given: the launch's arguments and constants by name.
    """
    count = _CHAINS.get(name)
    return 1 if count is None else count(given, grid)


def _scan(given: Arguments, grid: Grid) -> int:
    """Tokens: once to find what enters a segment, where there are several and no launch before did, and once
    again; with chunks the maps of those before, too."""
    if given.get("CHUNKED", False):
        return int(given["length"]) + grid[2]
    return int(given["length"]) * (2 if given["SEGMENTS"] > 1 else 1)


def _reduction(given: Arguments, grid: Grid) -> int:
    """Tokens of a segment, which becomes one map."""
    return int(given["length"])


def _both_ways(given: Arguments, grid: Grid) -> int:
    """As `_scan`, there and back."""
    return _scan(given, grid) + int(given["length"])


def _rank_segments(given: Arguments, grid: Grid) -> int:
    """Products: a segment, and powers by doubling."""
    return int((1 << given["LOG_LENGTH"]) + given["LOG_SEGMENTS"])


def _rank_blocks(given: Arguments, grid: Grid) -> int:
    """Products: as `_rank_segments`, then the segment again."""
    return _rank_segments(given, grid) + (1 << int(given["LOG_LENGTH"]))


def _rows(given: Arguments, grid: Grid) -> int:
    """Tiles of rows that a program of a fixed number takes in turn."""
    return -(-int(given["count"]) // (int(given["ROWS"]) * grid[0]))


def _band(given: Arguments, grid: Grid) -> int:
    """Tiles of the other side that a block of rows sees."""
    seen = min(given["WINDOW"] + given["BLOCK"] - 1, given["N"])
    return -(-int(seen) // int(given["SPAN"]))


def _tiles(given: Arguments, grid: Grid) -> int:
    """Steps along the depth of the product's tiles that a program takes in turn."""
    tiles = -(-int(given["N"]) // int(given["BLOCK_N"])) * int(given["TILES"])
    return -(-tiles // grid[0]) * -(-int(given["D"]) // int(given["BLOCK_D"]))


_CHAINS: dict[str, Callable[[Arguments, Grid], int]] = {
    "ar_ssm_scan.decayed.gated_backward": _both_ways,
    "ar_ssm_scan.decayed.gated_forward": _scan,
    "ar_ssm_scan.maps.gated_backward_maps": _reduction,
    "ar_ssm_scan.maps.gated_maps": _reduction,
    "bk_gate.gated.gate_backward": _scan,
    "bk_gate.gated.gate_forward": _scan,
    "bk_gate.maps.gate_adjoint_maps": _reduction,
    "bk_gate.maps.gate_maps": _reduction,
    "bk_scan.resolvent.resolvent_backward": _scan,
    "bk_scan.resolvent.resolvent_forward": _scan,
    "bk_scan.maps.adjoint_maps": _reduction,
    "bk_scan.maps.resolvent_maps": _reduction,
    "block.gate.gradient_kernel": _rows,
    "htt_cross_entropy.exponentials.persistent_exponentials_kernel": _tiles,
    "htt_embedding.gather.position_gradient_kernel": lambda given, grid: int(given["B"]),
    "layer_norm.tiles.backward_kernel": _rows,
    "mix_norm.tiles.backward_kernel": _rows,
    "rank_scan.recurrence.block_ends": _rank_segments,
    "rank_scan.recurrence.scan_blocks": _rank_blocks,
    "rank_weight.tiles.backward_kernel": _rows,
    "window_attention.banded.key_kernel": _band,
    "window_attention.banded.query_kernel": _band,
    "window_attention.fast.forward_kernel": _band,
}


def launched(model: str, batch: int, n_seq: int) -> dict[str, dict[str, int]]:
    """By kernel of one training step: launches, and of the launch with the longest chain programs, warps of
    one, and that chain."""
    found: dict[str, dict[str, int]] = {}

    def note(kernel: Any, given: Arguments, grid: Grid) -> None:
        name = kernel_name(kernel)
        row = found.setdefault(name, {"launches": 0, "programs": 0, "warps": 0, "chain": 0})
        row["launches"] += 1
        steps = chain(name, given, grid)
        programs, warps = math.prod(grid), given.get("num_warps", _DEFAULT_WARPS)
        if (steps, programs) > (row["chain"], row["programs"]):
            row |= {"programs": programs, "warps": warps, "chain": steps}
            found[name] = row

    with recording(limits_of(gpu_profile(CARD)), ARCHITECTURE, note):
        trainer = Trainer(preset(model, n_seq=n_seq), TrainingOptions(kernel_version="fast"), device=META)
        trainer.accumulate(torch.zeros(batch, n_seq + 1, dtype=torch.int64, device=META), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    leave_dynamo_out()
    results: dict[str, Any] = {
        "card": CARD,
        "multiprocessors": gpu_profile(CARD).multiprocessors,
        "models": {
            model: {
                f"{batch}×{n_seq}": launched(model, batch, n_seq) for batch, n_seq in CASES[model]
            }
            for model in arguments.models
        },
    }  # fmt: skip
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, content in (("results.json", results), ("environment.json", environment())):
        (arguments.output / name).write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    text = report(results)
    (arguments.output / "report.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        raise SystemExit(
            "parallelism: expected Triton's compiler, got its interpreter; unset TRITON_INTERPRET"
        )
    main()
