"""The whole training step under a memory cap, side by side with a transformer of the same width and depth.

    python -m phase8_tune.benchmarks.training_step [--vram-gib 8] [--output DIR]

Each model runs at its own best batch: batches go up until memory runs out, and the best throughput counts.
Prints a table for people and one JSON line for machines; writes results.json into DIR.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from ..phase8.config import preset
from ..phase8.training import Trainer, TrainingOptions
from ..tuner.training.card import HeldCard
from .environment import environment
from .timing import ceilings, summarise, time_calls
from .transformer import VOCAB_SIZE, TransformerTrainer

# A token's arithmetic and memory traffic in training, an estimate from the model's shapes: (body FLOP, body
# bytes, FLOP of the factored head, of the dense head). A dense head costs 3 forward passes of 2·v1·v2·d, a
# factored one 4 (its logits are computed again) of 2·v1·r·(d1·d2 + v2·d2), with rows folded to 32 × 16 for
# small and 64 × 16 for medium. Medium's is for a rank of 16; its preset has 32, for which the factored head
# is no cheaper than the dense one.
ROOFLINE = {"small": (69e6, 426e3, 118e6, 154e6), "medium": (491e6, 1704e3, 133e6, 309e6)}
SEQUENCES = {"small": 256, "medium": 512}
BATCHES = {  # tried in this order, up to the first that does not fit
    "small": {
        "transformer": (64, 72),
        "fast": (64, 128, 256, 320, 352, 368),
        "checkpointing": (640, 800),
        "other": (16, 64),
    },
    "medium": {
        "transformer": (8, 9),
        "fast": (16, 32, 44, 48, 52),
        "checkpointing": (120, 132),
        "other": (4, 16),
    },
}


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
    try:
        trainer = make()
        weights = torch.cuda.memory_allocated() - base
        tokens = torch.randint(0, VOCAB_SIZE, (batch, n_seq + 1), device="cuda")
        run = getattr(trainer, method)
        timing = summarise(time_calls(lambda: run(tokens)))
    except RuntimeError as error:  # also what a capture makes of running out of memory
        if "out of memory" not in str(error) and "capture" not in str(error):
            raise
        return None
    finally:
        peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    count = batch * n_seq
    return {
        "batch": batch,
        "n_seq": n_seq,
        "tokens_per_s": count / timing.median_s,
        "tokens_per_s_low": count / timing.high_s,
        "tokens_per_s_high": count / timing.low_s,
        "peak_allocated_bytes": peak,
        "peak_reserved_bytes": reserved,
        "weights_bytes": weights,
        # Weights, gradients and two moments of AdamW are the same for every batch
        "activation_bytes_per_token": (peak - (4 if method == "step" else 1) * weights) / count,
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
    options = TrainingOptions(
        kernel_version=version, gradient_checkpointing="full" if checkpointing else "none"
    )
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
    # Both sides under the rule of a training: the budget holds the context and what libraries load later, too
    cap = int(arguments.vram_gib * 2**30)
    HeldCard(cap)
    results: dict[str, Any] = {
        "environment": environment(),
        "ceilings": ceiling,
        "vram_bytes": cap,
        "runs": {},
    }
    rows: list[list[str]] = []
    for name in arguments.models:
        for label, found in _runs(name, arguments.versions):
            results["runs"][label] = found
            rows.append(_row(label, found, ceiling))
            if arguments.output is not None:  # what is measured is kept if a later run does not end
                arguments.output.mkdir(parents=True, exist_ok=True)
                (arguments.output / "results.json").write_text(
                    json.dumps(results, indent=1), encoding="utf-8"
                )
    headers = ["run", "batch", "tokens/s", "peak reserved MB", "KB a token", "of roofline (factored / dense)"]
    table = tabulate(rows, headers=headers)
    print(table)
    if arguments.output is not None:
        (arguments.output / "table.txt").write_text(table + "\n", encoding="utf-8")
    print(json.dumps(results))


def _runs(name: str, versions: list[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Every run of one model size, measured as it is asked for: (label, all batches that fit)."""
    n_seq, batches, first = SEQUENCES[name], BATCHES[name], versions[0]
    yield f"{name} transformer train", _best(_transformer(name, n_seq), n_seq, "step", batches["transformer"])
    found = _best(_phase8(name, n_seq, first, False), n_seq, "step", batches.get(first, batches["other"]))
    yield f"{name} phase8 {first} train", found
    if name == "small":
        yield f"small phase8 {first} forward", _best(_phase8(name, 256, first, False), 256, "evaluate", (8,))
    if name == "medium":
        found = _best(_phase8(name, 1024, first, False), 1024, "step", (16,))
        yield f"medium phase8 {first} train at 1024", found
    found = _best(_phase8(name, n_seq, first, True), n_seq, "step", batches["checkpointing"])
    yield f"{name} phase8 {first} checkpointing train", found
    for version in versions[1:]:
        found = _best(
            _phase8(name, n_seq, version, False), n_seq, "step", batches.get(version, batches["other"])
        )
        yield f"{name} phase8 {version} train", found


def _row(label: str, found: list[dict[str, Any]], ceiling: dict[str, float]) -> list[str]:
    """The best batch of a run; for our training runs its share of the roofline."""
    if not found:
        return [label, "out of memory", "", "", "", ""]
    best = max(found, key=lambda r: float(r["tokens_per_s"]))
    share = ""
    if "phase8" in label and "train" in label:
        body, traffic, *heads = ROOFLINE[label.split()[0]]
        floors = (
            min(ceiling["flop_per_s"] / (body + head), ceiling["bytes_per_s"] / traffic) for head in heads
        )
        share = " / ".join(f"{best['tokens_per_s'] / floor:.0%}" for floor in floors)
    return [
        label,
        f"{best['batch']}x{best['n_seq']}",
        f"{best['tokens_per_s']:,.0f}",
        f"{best['peak_reserved_bytes'] / 2**20:,.0f}",
        f"{best['activation_bytes_per_token'] / 1e3:.1f}",
        share,
    ]


if __name__ == "__main__":
    main()
