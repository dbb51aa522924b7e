"""One training run on real text in two kernel versions from the same seed: the loss curves must agree.

    python -m phase8_tune.benchmarks.loss_curve [--model small --batch 4 --seq 256 --steps 300] [--output DIR]

The text is the source code of Python's standard library. Prints a table and writes results.json into DIR.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from tabulate import tabulate

from ..phase8.config import preset
from ..phase8.model import Precision
from ..phase8.training import Trainer, TrainingOptions
from ..tuner.training.schedule import Schedule
from ..tuner.training.tokens import unigram_entropy
from ..tuner.training.windows import Tokens, WindowSampler
from .environment import environment

_TEXT_BYTES = 4_000_000
_LAST = 50  # steps whose mean difference is reported


def standard_library_text() -> Tokens:
    """Bytes of the standard library's modules in alphabetical order, uint8 [count]."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    raw = bytearray()
    for path in sorted(folder.glob("*.py")):
        raw += path.read_bytes()
        if len(raw) >= _TEXT_BYTES:
            break
    return np.frombuffer(raw, dtype=np.uint8)


def losses(
    version: str, precision: Precision, tokens: Tokens, model: str, batch: int, n_seq: int, steps: int
) -> list[float]:
    """The loss of every step of a run; model, data order and schedule are the same in every call."""
    options = TrainingOptions(kernel_version=version, mixed_precision=precision)
    device = torch.device("cuda")
    trainer = Trainer(preset(model, n_seq=n_seq), options, device=device)
    sampler = WindowSampler(tokens, batch_size=batch, n_seq=n_seq, seed=0)
    schedule = Schedule.of(options.learning_rate, steps, warmup_steps=30)
    found = []
    for step in range(steps):
        trainer.set_learning_rate(schedule.rate(step))
        found.append(trainer.step(torch.from_numpy(sampler.batch(step)).to(device)))
    return [float(loss) for loss in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="small")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--runs", nargs="*", default=["reference:bf16", "fast:bf16", "fast:none"])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    tokens = standard_library_text()
    curves: dict[str, list[float]] = {}
    for name in arguments.runs:
        version, _, precision = name.partition(":")
        if precision not in get_args(Precision):
            parser.error(f"--runs: expected VERSION:bf16, VERSION:fp16 or VERSION:none, got {name}")
        curves[name] = losses(
            version, precision, tokens, arguments.model, arguments.batch, arguments.seq, arguments.steps
        )
        print(name, "done", flush=True)
    first = next(iter(curves.values()))
    marks = sorted({1, 50, 100, 200, arguments.steps} & set(range(1, arguments.steps + 1)))
    differences = {
        name: sum(abs(a - b) for a, b in zip(curve[-_LAST:], first[-_LAST:], strict=True)) / _LAST
        for name, curve in curves.items()
    }
    rows = [[name, *(curve[m - 1] for m in marks), differences[name]] for name, curve in curves.items()]
    headers = ["run", *(f"step {m}" for m in marks), f"mean |difference|, last {_LAST} steps"]
    table = tabulate(rows, headers=headers, floatfmt=".4f")
    print(table)
    results = {
        "environment": environment(),
        "model": arguments.model,
        "batch": arguments.batch,
        "n_seq": arguments.seq,
        "text_bytes": len(tokens),
        "unigram_entropy_nats": unigram_entropy(tokens),
        "losses_nats": curves,
        "mean_absolute_difference_nats": differences,
    }
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        (arguments.output / "table.txt").write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
