"""What a model has learned after the same time on the same card: Phase 8, Phase 7 and a transformer.

    python -m phase8_tune.benchmarks.loss_at_time --vram 8GB --seconds 120 --output DIR

Trains each model on the same Python code (see loss_texts), at two sizes and two learning rates each, and
takes the held-out loss over time. The transformer of a size has as many parameters as Phase 8 of that size.
Batches are the largest that fit: for Phase 8 by prediction, for the transformer by trying. DIR/curves has a
JSON file a curve, and what is there is not trained again: the same command goes on where it was stopped.
Writes results.json, environment.json, report.md and loss.png into DIR.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..tuner.predict.fits import RECOMMEND
from ..tuner.predict.prediction import LARGEST_BATCH, Predictor
from ..tuner.predict.rate.calibration import present_profile
from ..tuner.predict.store import PredictionStore
from ..tuner.values.atomic_write import write_atomically
from ..tuner.values.candidate import Candidate
from ..tuner.values.sizes import parse_size
from .environment import environment
from .loss_at_time_report import write_report
from .loss_learners import Plan, matched_size
from .loss_texts import make_text

_MODELS = ("phase8", "phase7", "transformer")
_CHILD = [sys.executable, "-m", "phase8_tune.benchmarks.loss_at_time_curve"]
_SETUP_S = 90.0  # what a curve takes beside its training: loading, compiling, trying batches


def plans(arguments: argparse.Namespace, vocab_size: int) -> Iterator[tuple[str, Plan]]:
    """(name of the size, plan) of all models; matched ones follow the Phase 8 model of their size."""
    has_card = torch.cuda.is_available()
    for size in arguments.sizes:
        common: dict[str, Any] = {
            "n_seq": arguments.seq,
            "vocab_size": vocab_size,
            "mixed_precision": "bf16" if has_card else "none",
        }
        version = "fast" if has_card else "reference"
        phase8 = Plan(model="phase8", size=size, kernel_version=version, **common)
        for model in arguments.models:
            if model == "transformer":
                version = "compiled" if has_card else "eager"
                found = Plan(model=model, size=matched_size(phase8), kernel_version=version, **common)
            else:
                found = Plan(**{**phase8.to_dict(), "model": model})
            yield size, found


def predicted_batch(plan: Plan, budget_bytes: int) -> int:
    """The largest batch of a Phase 8 model that may be recommended on this card."""
    line = Candidate(
        model=plan.size,
        batch_size=0,
        variant=plan.model,
        n_seq=plan.n_seq,
        vocab_size=plan.vocab_size,
        kernel_version=plan.kernel_version,
        mixed_precision=plan.mixed_precision,
        gradient_checkpointing=False,
    )
    with PredictionStore() as store:
        predictor = Predictor(profile=present_profile(), store=store)
        (outlook,) = predictor.look_ahead([(line, range(1, LARGEST_BATCH + 1))], budget_bytes, RECOMMEND)
    return outlook.largest


class Curves:
    """The curves of a folder, each in a file of its own."""

    def __init__(self, folder: Path, common: dict[str, Any]) -> None:
        self._folder, self._common = folder / "curves", common
        self._folder.mkdir(parents=True, exist_ok=True)

    def find(self, size: str, plan: Plan, peak_rate: float) -> dict[str, Any] | None:
        """Raises: SystemExit for a curve that was trained otherwise than is asked now."""
        path = self._path(size, plan, peak_rate)
        if not path.exists():
            return None
        curve: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if curve["plan"] != plan.to_dict() or any(curve[key] != self._common[key] for key in self._common):
            raise SystemExit(f"{path}: was trained with other settings or text; name another --output")
        return curve

    def batch_of(self, size: str, plan: Plan, rates: list[float]) -> int | None:
        """That of a curve of the same plan, where there is one."""
        found = (self.find(size, plan, rate) for rate in rates)
        return next((int(curve["batch"]) for curve in found if curve is not None), None)

    def write(self, size: str, plan: Plan, peak_rate: float, curve: dict[str, Any]) -> None:
        whole = {"size": size, **self._common, **curve}
        write_atomically(self._path(size, plan, peak_rate), json.dumps(whole, indent=1) + "\n")

    def _path(self, size: str, plan: Plan, peak_rate: float) -> Path:
        return self._folder / f"{size}-{plan.model}-{peak_rate:g}.json"


def train(request: dict[str, Any]) -> dict[str, Any] | None:
    """One curve, in a process of its own; None where it failed, which that process has told."""
    done = subprocess.run(
        _CHILD, input=json.dumps(request), stdout=subprocess.PIPE, encoding="utf-8", check=False
    )
    if done.returncode:
        return None
    curve: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return curve


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vram", default="8GB", help="budget; without a GPU it is not used")
    parser.add_argument("--seconds", type=float, default=120.0, help="of training, each curve")
    parser.add_argument("--sizes", nargs="+", default=["small", "base"], help="of Phase 8")
    parser.add_argument("--models", nargs="+", default=list(_MODELS), choices=_MODELS)
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 3e-3], help="peak learning rates")
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--text-mb", type=float, default=150.0, help="at most, of Python code")
    parser.add_argument("--batch", type=int, help="of all models; needed without a GPU")
    parser.add_argument("--most-tokens", type=int, help="a step, where the largest batch has more")
    parser.add_argument("--stop-after", type=float, help="seconds, after which no curve is begun")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.batch is None and not torch.cuda.is_available():
        parser.error("--batch: expected a batch, as there is no GPU whose memory would say it")
    return arguments


def main() -> None:
    arguments, begun = parse_arguments(), time.monotonic()
    budget_bytes = parse_size(arguments.vram, what="--vram")
    text = make_text(int(arguments.text_mb * 1e6), arguments.vocab)
    common = {
        "text_digest": text.digest,
        "text_bytes": text.train_bytes,
        "text_tokens": len(text.train),
        "bytes_per_token": text.bytes_per_token,
        "seconds": arguments.seconds,
        "budget_bytes": budget_bytes if torch.cuda.is_available() else None,
    }
    curves = Curves(arguments.output, common)
    write_atomically(arguments.output / "environment.json", json.dumps(environment(), indent=1) + "\n")
    found, missing = [], 0
    most_batch = arguments.most_tokens and max(arguments.most_tokens // arguments.seq, 1)
    with tempfile.TemporaryDirectory(prefix="phase8-loss-") as folder:
        tokens = Path(folder) / "tokens.npz"
        np.savez(tokens, train=text.train, held_out=text.held_out)
        for size, plan in plans(arguments, text.vocab_size):
            for rate in arguments.rates:
                curve = curves.find(size, plan, rate)
                left = arguments.stop_after and arguments.stop_after - (time.monotonic() - begun)
                if curve is None and (left is None or left > arguments.seconds + _SETUP_S):
                    batch = arguments.batch or curves.batch_of(size, plan, arguments.rates)
                    if batch is None and plan.model != "transformer":
                        batch = predicted_batch(plan, budget_bytes)
                        batch = min(batch, most_batch or batch)
                    request = {
                        "plan": plan.to_dict(),
                        "batch": batch,
                        "most_batch": most_batch,
                        "peak_rate": rate,
                        "seconds": arguments.seconds,
                        "budget_bytes": common["budget_bytes"],
                        "tokens": str(tokens),
                    }
                    trained = train(request)
                    if trained is not None:
                        curves.write(size, plan, rate, trained)
                        curve = curves.find(size, plan, rate)
                if curve is None:
                    missing += 1
                    print(f"{size} {plan.model} {rate:g}: not trained", flush=True)
                    continue
                found.append(curve)
                print(
                    f"{size} {plan.model} {plan.size} {rate:g}: {curve['points'][-1]['loss']:.4f} nats after "
                    f"{curve['tokens'] / 1e6:.1f} M tokens, {curve['batch']}x{plan.n_seq}",
                    flush=True,
                )
    results = {"curves": found, "missing": missing}
    write_atomically(arguments.output / "results.json", json.dumps(results, indent=1) + "\n")
    print(write_report(arguments.output, found, missing))


if __name__ == "__main__":
    main()
