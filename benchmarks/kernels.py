"""Every operation in every version against the best public alternative, on the same inputs, interleaved.

    python -m phase8_tune.benchmarks.kernels [--operations …] [--smaller-blocks] [--output DIR]

A version is timed only where the gate passes here. --smaller-blocks: `fast` once more, with the blocks that
it has where shared memory is least: what they cost a card that must take them. Prints a table for people
and one JSON line for machines.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from ..kernels.device_limits import (
    SMALLEST_SHARED_MEMORY_BYTES,
    assuming_limits,
    multiprocessor_count,
    shared_memory_limit,
)
from ..kernels.gate import check_operation
from ..kernels.gate_draws import GateInputs, GateShape
from ..kernels.gate_inputs import draw_inputs
from ..kernels.versions import OPERATIONS, UnsupportedVersionError, implementation
from .anchors import anchors
from .environment import environment
from .timing import ceilings, interleave

SHAPES = {
    "small": GateShape(batch=64, n_seq=256, d_model=512, n_heads=8, htt_rank=16, vocab_size=50257),
    "medium": GateShape(batch=16, n_seq=512, d_model=1024, n_heads=16, htt_rank=32, vocab_size=50257),
}
VERSIONS = ("reference", "v1", "v2", "fast")
_HEADERS = (
    "operation",
    "size",
    "version",
    "forward µs",
    "train µs [95 %]",
    "ns/token",
    "of B/s",
    "of FLOP/s",
)
_FLOAT32 = frozenset({"bk_scan", "rank_scan", "block_scalars", "spectral_norm"})
_SMALLER = f"fast within {SMALLEST_SHARED_MEMORY_BYTES:,} bytes"


def least_work(operation: str, s: GateShape, form: int) -> tuple[float, float]:
    """(bytes, FLOP) a token of forward and backward: every input and output moved once, products counted."""
    d, rank = s.d_model, s.rank
    attention = 3.5 * 4 * 2 * s.window * d
    block = 6 * (d * (4 * d + d // 4 + 2 * rank) + rank * (d + d // 4))  # its products, and their gradients
    table = {
        "htt_embedding": (2 * 2 * d, 0),
        "layer_norm": (2 * 5 * d, 0),
        "norm_potential": (2 * 5 * d + 8, 0),
        "bk_scan": ((4 * 7, 0), (4 * d * 10, 0))[form] if operation == "bk_scan" else (0, 0),
        "window_attention": (2 * 12 * d, attention),
        "ar_ssm_scan": (2 * 11 * rank, 0),
        "mix_norm": (2 * (4 + 3 + 4) * d, 6 * rank * d),
        "block_scalars": (0, 0),
        "spectral_norm": (0, 0),
        "block": (2 * 5 * d, block + attention),
        "bk_gate": (2 * (5 + 4 + 4) * d, 0),
        "rank_weight": (2 * 3 * d + 4 * 6, 0),
        "rank_scan": (4 * 5 * rank, 6 * rank * rank),
        "htt_cross_entropy": (2 * 2 * d, 6 * s.vocab_size * d),
    }
    return table[operation]


def _limits(label: str) -> contextlib.AbstractContextManager[None]:
    """Inside, kernels have the blocks that the label says."""
    if label != _SMALLER:
        return contextlib.nullcontext()
    processors = multiprocessor_count(torch.device("cuda"))
    return assuming_limits(shared_memory_bytes=SMALLEST_SHARED_MEMORY_BYTES, multiprocessors=processors)


def _calls(
    label: str, function: Callable[..., Any], inputs: GateInputs, dtype: torch.dtype
) -> tuple[Callable[[], object], Callable[[], object]]:
    """(forward under no_grad, forward and backward) of one implementation on its own leaves."""
    leaves = {
        name: leaf.to("cuda", kind).requires_grad_()
        for group, kind in ((inputs.compute, dtype), (inputs.wide, torch.float32))
        for name, leaf in group.items()
    }
    arguments = inputs.arguments(leaves, dtype)
    with torch.no_grad(), _limits(label):
        outputs = function(*arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    cotangents = [torch.randn_like(output) for output in outputs]

    def forward() -> object:
        with torch.no_grad(), _limits(label):
            return function(*arguments)

    def train() -> object:
        with _limits(label):
            result = function(*inputs.arguments(leaves, dtype))
            result = result if isinstance(result, tuple) else (result,)
            return torch.autograd.grad(result, list(leaves.values()), cotangents, allow_unused=True)

    return forward, train


def measure(
    operation: str, name: str, ceiling: dict[str, float], *, with_anchors: bool, with_smaller: bool
) -> list[dict[str, Any]]:
    """All versions and anchors of an operation at one size."""
    shape = SHAPES[name]
    dtype = torch.float32 if operation in _FLOAT32 else torch.bfloat16
    found: list[dict[str, Any]] = []
    for form, inputs in enumerate(draw_inputs(operation, shape, dtype, seed=0)):
        if operation == "htt_cross_entropy":  # the gate's logits grow with d: here they are a model's
            for core in ("core1", "core2"):
                inputs.wide[core] *= shape.d_model**-0.25
        if operation in ("mix_norm", "block") and form:  # without the residual: no model of ours has it
            continue
        forward: dict[str, Callable[[], object]] = {}
        train: dict[str, Callable[[], object]] = {}
        functions: dict[str, Callable[..., Any]] = {}
        for version in VERSIONS:
            try:
                function = implementation(operation, version)
                ok = (
                    version == "reference"
                    or check_operation(operation, version, torch.device("cuda"), dtype).ok
                )
            except (ImportError, UnsupportedVersionError) as error:
                found.append({"version": version, "skipped": str(error)})
                continue
            if not ok:
                found.append({"version": version, "skipped": "the gate fails"})
            elif function not in functions.values():  # versions may share an implementation
                functions[version] = function
        if with_smaller and "fast" in functions:
            functions[_SMALLER] = functions["fast"]
        others = anchors(operation, shape) if with_anchors else {}
        for label, anchor in (functions | others).items():
            try:
                forward[label], train[label] = calls = _calls(label, anchor, inputs, dtype)
                for call in calls:
                    call()
            except Exception as error:  # an anchor that cannot run is reported, not hidden
                found.append({"version": label, "skipped": f"{type(error).__name__}: {error}"[:200]})
                forward.pop(label, None)
                train.pop(label, None)
        tokens = shape.batch * shape.n_seq
        floor_bytes, floor_flop = least_work(operation, shape, form)
        forward_times, train_times = interleave(forward), interleave(train)
        for label in forward:
            seconds = train_times[label].median_s
            found.append(
                {
                    "version": label,
                    "form": form,
                    "forward_s": forward_times[label].to_dict(),
                    "train_s": train_times[label].to_dict(),
                    "train_ns_per_token": seconds / tokens * 1e9,
                    "share_of_bandwidth": floor_bytes * tokens / seconds / ceiling["bytes_per_s"],
                    "share_of_matrix_rate": floor_flop * tokens / seconds / ceiling["flop_per_s"],
                }
            )
        del forward, train
        torch.cuda.empty_cache()
    return [{"operation": operation, "size": name, **entry} for entry in found]


def _row(entry: dict[str, Any]) -> list[str]:
    label = entry["operation"] + (f" form {entry['form'] + 1}" if entry.get("form") else "")
    if "skipped" in entry:
        return [label, entry["size"], entry["version"], entry["skipped"][:60], "", "", "", ""]
    forward, train = entry["forward_s"], entry["train_s"]
    return [
        label,
        entry["size"],
        entry["version"],
        f"{forward['median_s'] * 1e6:,.1f}",
        f"{train['median_s'] * 1e6:,.1f} [{train['low_s'] * 1e6:,.1f}, {train['high_s'] * 1e6:,.1f}]",
        f"{entry['train_ns_per_token']:.2f}",
        f"{entry['share_of_bandwidth']:.0%}",
        f"{entry['share_of_matrix_rate']:.0%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument("--sizes", nargs="*", default=list(SHAPES))
    parser.add_argument("--no-anchors", action="store_true")
    parser.add_argument("--smaller-blocks", action="store_true")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    device = torch.device("cuda")
    if arguments.smaller_blocks and shared_memory_limit(device) == SMALLEST_SHARED_MEMORY_BYTES:
        parser.error("--smaller-blocks: this card has the least shared memory itself; leave it out")
    ceiling = ceilings()
    torch.cuda.empty_cache()
    results: dict[str, Any] = {"environment": environment(), "ceilings": ceiling, "entries": []}
    for operation in arguments.operations:
        for name in arguments.sizes:
            results["entries"] += measure(
                operation,
                name,
                ceiling,
                with_anchors=not arguments.no_anchors,
                with_smaller=arguments.smaller_blocks,
            )
            if arguments.output is not None:  # what is measured is kept if a later one does not end
                arguments.output.mkdir(parents=True, exist_ok=True)
                (arguments.output / "results.json").write_text(
                    json.dumps(results, indent=1), encoding="utf-8"
                )
    table = tabulate([_row(entry) for entry in results["entries"]], headers=_HEADERS)
    if arguments.output is not None:
        (arguments.output / "table.txt").write_text(table + "\n", encoding="utf-8")
    print(table)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
