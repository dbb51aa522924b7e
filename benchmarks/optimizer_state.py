"""AdamW with a small state beside the usual one: memory, time of a step, and loss curves on real text.

    python -m phase8_tune.benchmarks.optimizer_state --output DIR [--sizes nano small medium] [--seeds 0 1 2]

Memory and time: weights, gradients and state of a preset, and clipping with the optimizer's step alone, in
turns. Curves: 2,000 steps of each contestant from each seed on the same batches, in bfloat16, at three sizes;
torchao and bitsandbytes where they are installed, at the sizes of --anchored. Everything is written to
DIR/results.json as soon as it is there: the same command goes on where it stopped. Then it writes report.md.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..phase8.config import Phase8Config, preset
from ..phase8.training import Trainer
from ..tuner.training.schedule import Schedule
from ..tuner.training.windows import WindowSampler, held_out_batches
from .environment import environment
from .loss_texts import Text, make_text
from .optimizer_state_contestants import CONTESTANTS, Contestant
from .optimizer_state_report import report
from .timing import interleave

BATCHES = {"nano": (64, 256), "small": (32, 256), "base": (16, 512), "medium": (16, 512)}
"""Rows and tokens of a row of the curves."""
TIMED = ("small", "medium", "xl")
VERSION = "fast"
_TEXT_BYTES, _VOCAB_SIZE = 30_000_000, 16_384
_PEAK_RATE = 1e-3
_HELD_OUT_BATCHES = 20
_A_POINT = 50  # steps whose mean is a point of a curve

Results = dict[str, Any]


def measured_step(trainers: dict[str, Trainer]) -> dict[str, Any]:
    """Device times of clipping and a step of each trainer's optimizer, in turns; gradients are random."""
    calls: dict[str, Callable[[], object]] = {}
    for name, trainer in trainers.items():
        trainer._apply_gradients()  # state is made, and what compiles is compiled
        calls[name] = trainer._apply_gradients
    return {name: timing.to_dict() for name, timing in interleave(calls).items()}


def with_gradients(contestant: Contestant, config: Phase8Config, device: torch.device) -> tuple[Trainer, int]:
    """A trainer whose gradients are there, after a step, and the bytes that it holds."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    trainer = contestant.trainer(config, device=device, kernel_version=VERSION)
    for parameter in trainer.model.parameters():
        parameter.grad = 0.01 * torch.randn_like(parameter)
    trainer._apply_gradients()
    return trainer, torch.cuda.memory_allocated() - before


def time_steps(model: str, contestants: Sequence[Contestant], device: torch.device) -> dict[str, Any]:
    """Bytes a parameter and seconds a step of each contestant at a preset."""
    config = preset(model, n_seq=1024)
    made = {each.name: with_gradients(each, config, device) for each in contestants}
    timings = measured_step({name: trainer for name, (trainer, _) in made.items()})
    count = config.parameter_count()
    return {
        name: {"bytes": held, "bytes_a_parameter": held / count, "step_s": timings[name]}
        for name, (_, held) in made.items()
    }


def curve(
    contestant: Contestant,
    text: Text,
    model: str,
    seed: int,
    steps: int,
    *,
    device: torch.device,
    version: str = VERSION,
) -> dict[str, Any]:
    """Means of the loss over every _A_POINT steps, and the loss of held-out text at the end, nats a token.

    Batches, their order and the schedule are the same for every contestant of a seed.
    """
    batch, n_seq = BATCHES[model]
    config = preset(model, n_seq=n_seq, vocab_size=text.vocab_size)
    trainer = contestant.trainer(config, device=device, kernel_version=version, seed=seed)
    sampler = WindowSampler(text.train.view(np.uint16), batch_size=batch, n_seq=n_seq, seed=seed)
    schedule = Schedule.of(_PEAK_RATE, steps)
    losses = torch.empty(steps, device=device)
    for step in range(steps):
        trainer.set_learning_rate(schedule.rate(step))
        losses[step] = trainer.step(torch.from_numpy(sampler.batch(step)).to(device))
    held_out = held_out_batches(
        text.held_out.view(np.uint16), batch_size=batch, n_seq=n_seq, limit=_HELD_OUT_BATCHES
    )
    held_out_losses = [float(trainer.evaluate(torch.from_numpy(each).to(device))) for each in held_out]
    points = [float(part.mean()) for part in torch.split(losses, _A_POINT)]
    return {"losses_nats": points, "held_out_nats": float(np.mean(held_out_losses))}


class Kept:
    """Results in a file, each under its own words, written down as soon as it is there."""

    def __init__(self, path: Path, fixed: Results) -> None:
        self._path = path
        self.results: Results = {"steps": {}, "curves": {}}
        if path.exists():
            self.results = json.loads(path.read_text(encoding="utf-8"))
            differing = [key for key, value in fixed.items() if self.results.get(key) != value]
            if differing:
                raise SystemExit(
                    f"{path}: expected results of the same {', '.join(differing)}, got others; choose "
                    "another --output"
                )
        self.results |= fixed

    def __call__(self, kind: str, name: str, measure: Callable[[], Any]) -> None:
        """Measure what is not there yet."""
        if name in self.results[kind]:
            return
        self.results[kind][name] = measure()
        gc.collect()
        torch.cuda.empty_cache()
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
        draft.replace(self._path)
        print(kind, name, "done", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=["nano", "small", "medium"], choices=list(BATCHES))
    parser.add_argument("--timed", nargs="*", default=list(TIMED))
    parser.add_argument("--anchored", nargs="*", default=["small"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    device = torch.device("cuda")
    installed = [each for each in CONTESTANTS if each.is_installed]
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = make_text(_TEXT_BYTES, _VOCAB_SIZE)
    fixed = {"steps_of_a_curve": arguments.steps, "text": text.digest, "gpu": environment()["gpu"]}
    kept = Kept(arguments.output / "results.json", fixed)
    for model in arguments.timed:
        kept("steps", model, lambda model=model: time_steps(model, installed, device))  # type: ignore[misc]
    for model in arguments.sizes:
        chosen = [each for each in installed if each.package is None or model in arguments.anchored]
        for seed in arguments.seeds:
            for each in chosen:

                def run(each: Contestant = each, model: str = model, seed: int = seed) -> dict[str, Any]:
                    return curve(each, text, model, seed, arguments.steps, device=device)

                kept("curves", f"{model} seed {seed} {each.name}", run)
    (arguments.output / "environment.json").write_text(
        json.dumps(environment(), indent=1) + "\n", encoding="utf-8"
    )
    written = report(kept.results)
    (arguments.output / "report.md").write_text(written, encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
