"""The whole training step under a memory cap, side by side with a transformer of the same width and depth.

    python -m phase8_tune.benchmarks.training_step [--vram-gib 8] [--output DIR]

Each model runs at its own best batch: batches go up until memory runs out, and the best throughput counts.
Prints a table for people and one JSON line for machines; writes results.json into DIR.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from ..phase8.config import preset
from ..phase8.training import Trainer, TrainingOptions
from .environment import environment
from .timing import ceilings, summarise, time_calls
from .transformer import VOCAB_SIZE, TransformerTrainer

# A token's arithmetic and memory traffic in training, by the roofline of the design: (body FLOP, body bytes,
# FLOP of the factored head, of the dense head). Medium's factored figure is for a rank of 16; its preset has
# 32, for which the factored head is no cheaper than the dense one.
ROOFLINE = {"small": (69e6, 426e3, 118e6, 154e6), "medium": (491e6, 1704e3, 133e6, 309e6)}
SEQUENCES = {"small": 256, "medium": 512}
BATCHES = (8, 16, 32, 64, 96, 128, 192, 256, 320)


def _free() -> None:
    gc.collect()
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def _measure(make: Callable[[], Any], batch: int, n_seq: int, method: str) -> dict[str, Any] | None:
    """One configuration: None where it runs out of memory under the cap."""
    _free()
    base = torch.cuda.memory_allocated()
    trainer = None
    try:
        trainer = make()
        states = torch.cuda.memory_allocated() - base
        tokens = torch.randint(0, VOCAB_SIZE, (batch, n_seq + 1), device="cuda")
        run = getattr(trainer, method)
        timing = summarise(time_calls(lambda: run(tokens)))
    except torch.OutOfMemoryError:
        return None
    finally:
        del trainer
        peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        _free()
    count = batch * n_seq
    return {
        "batch": batch,
        "n_seq": n_seq,
        "tokens_per_s": count / timing.median_s,
        "tokens_per_s_low": count / timing.high_s,
        "tokens_per_s_high": count / timing.low_s,
        "peak_allocated_bytes": peak,
        "peak_reserved_bytes": reserved,
        "weights_bytes": states,
        "samples_s": timing.samples_s,
    }


def _best(make: Callable[[], Any], n_seq: int, method: str, batches: tuple[int, ...]) -> list[dict[str, Any]]:
    """All batches that fit, in order; stops at the first that does not."""
    found = []
    for batch in batches:
        result = _measure(make, batch, n_seq, method)
        if result is None:
            break
        found.append(result)
        print(f"  {method} {batch}x{n_seq}: {result['tokens_per_s']:,.0f} tokens/s", flush=True)
    return found


def _phase8(name: str, n_seq: int, version: str, checkpointing: bool) -> Callable[[], Trainer]:
    options = TrainingOptions(kernel_version=version, gradient_checkpointing=checkpointing)
    return lambda: Trainer(preset(name, n_seq=n_seq), options, device=torch.device("cuda"))


def _transformer(name: str, n_seq: int) -> Callable[[], TransformerTrainer]:
    config = preset(name, n_seq=n_seq)
    return lambda: TransformerTrainer(config.d_model, config.n_layers, config.n_heads, n_seq)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vram-gib", type=float, default=8.0)
    parser.add_argument("--versions", nargs="*", default=["fast", "v2", "v1", "reference"])
    parser.add_argument("--models", nargs="*", default=["small", "medium"])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    ceiling = ceilings()
    _free()
    total = torch.cuda.get_device_properties(0).total_memory
    free, _ = torch.cuda.mem_get_info()
    context = total - free
    cap = arguments.vram_gib * 2**30
    torch.cuda.set_per_process_memory_fraction((cap - context) / total)
    results: dict[str, Any] = {
        "environment": environment(),
        "ceilings": ceiling,
        "vram_bytes": cap,
        "runs": {},
    }
    runs = results["runs"]
    rows = []

    def add(label: str, found: list[dict[str, Any]], share: str = "") -> None:
        runs[label] = found
        if not found:
            rows.append([label, "out of memory", "", "", ""])
            return
        best = max(found, key=lambda r: float(r["tokens_per_s"]))
        peak = f"{best['peak_reserved_bytes'] / 2**20:,.0f}"
        shape = f"{best['batch']}x{best['n_seq']}"
        rows.append([label, shape, f"{best['tokens_per_s']:,.0f}", peak, share])

    for name in arguments.models:
        n_seq = SEQUENCES[name]
        print(name, flush=True)
        add(f"{name} transformer train", _best(_transformer(name, n_seq), n_seq, "step", BATCHES))
        body, traffic, *heads = ROOFLINE[name]
        floors = [
            min(ceiling["flop_per_s"] / (body + head), ceiling["bytes_per_s"] / traffic) for head in heads
        ]
        for version in arguments.versions:
            batches = BATCHES if version in ("fast", "v2") else BATCHES[:3]
            found = _best(_phase8(name, n_seq, version, False), n_seq, "step", batches)
            best = max((r["tokens_per_s"] for r in found), default=0.0)
            add(
                f"{name} phase8 {version} train", found, " / ".join(f"{best / floor:.0%}" for floor in floors)
            )
        found = _best(_phase8(name, n_seq, arguments.versions[0], True), n_seq, "step", BATCHES)
        add(f"{name} phase8 {arguments.versions[0]} checkpointing train", found)
    forward = _best(_phase8("small", 256, arguments.versions[0], False), 256, "evaluate", (8,))
    add(f"small phase8 {arguments.versions[0]} forward", forward)
    add(
        f"medium phase8 {arguments.versions[0]} train at 1024",
        _best(_phase8("medium", 1024, arguments.versions[0], False), 1024, "step", (16,)),
    )
    print(
        tabulate(
            rows, headers=["run", "batch", "tokens/s", "peak reserved MB", "of roofline (factored / dense)"]
        )
    )
    text = json.dumps(results)
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "results.json").write_text(json.dumps(results, indent=1))
        (arguments.output / "table.txt").write_text(
            tabulate(
                rows,
                headers=["run", "batch", "tokens/s", "peak reserved MB", "of roofline (factored / dense)"],
            )
        )
    print(text)


if __name__ == "__main__":
    main()
