"""Whether a figure is that of the configuration: each measured twice, by two fresh worker processes.

    python -m phase8_tune.benchmarks.repeatability [--count 20] [--seconds 330] [--output DIR] [--device cpu]

Random configurations (seeded) that should fit a budget of 8 GiB go through the tuner's own measurer, and the
differences in tokens/s and peak memory are told. --seconds are those of measuring: choosing configurations
and compiling their kernels come before. All models come in turn, so that a table that the time cuts short
still shows each; the same command with the same DIR goes on after what is already there.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from ..tuner.measuring.measurer import Measurer
from ..tuner.measuring.worker_measurer import WorkerMeasurer
from ..tuner.values.candidate import Candidate, Precision
from ..tuner.values.outcome import Outcome
from ..tuner.values.record import Record
from ..tuner.values.timing import Timing
from .drawn_models import MODELS
from .environment import environment
from .made_records import record_of
from .repeatability_report import Pair, report_of, summary_of

GIB = 1 << 30
BUDGET_BYTES = 8 * GIB
_FILLED = 0.9  # of the budget, at most, by prediction: what is nearly over it is another question
_COMPILING = 10  # processes
_TRIES = 100  # for each configuration that is to be another one
_VERSIONS = (*("fast",) * 8, "v2", "v1")  # reference is launched kernel by kernel: as steady as the processor
_SEQUENCES = (256, 512, 1024)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)

Make = Callable[[Sequence[Record]], AbstractContextManager[Measurer]]
"""A measurer with a worker of its own, given the records so far: a kernel version is checked only once."""


def draw(count: int, seed: int, device: Literal["cuda", "cpu"]) -> list[Candidate]:
    """Different random configurations, all presets in turn; small ones with the reference for a CPU, of which
    there are fewer than may be asked for."""
    chance = random.Random(seed)
    drawn: dict[str, Candidate] = {}
    for _ in range(_TRIES * count):
        number = len(drawn)
        if number == count:
            break
        version = "reference" if device == "cpu" else _VERSIONS[number // len(MODELS) % len(_VERSIONS)]
        precisions: tuple[Precision, ...] = ("none",) if device == "cpu" else ("bf16",)
        if version == "fast":
            precisions = ("bf16", "bf16", "bf16", "fp16")
        candidate = Candidate(
            model="nano" if device == "cpu" else MODELS[number % len(MODELS)],
            n_seq=chance.choice((16, 24, 32) if device == "cpu" else _SEQUENCES),
            batch_size=chance.choice(_BATCHES[:2] if device == "cpu" else _BATCHES),
            kernel_version=version,
            gradient_checkpointing=chance.random() < 0.25,
            mixed_precision=chance.choice(precisions),
        )
        drawn[candidate.digest()] = candidate
    return list(drawn.values())


def choose_fitting(drawn: Sequence[Candidate], count: int) -> list[Candidate]:
    """Of the drawn ones those that should fit, by prediction: models in turn, as far as they go."""
    from ..tuner.predict.fits import LAUNCH
    from ..tuner.predict.prediction import Predictor
    from ..tuner.predict.rate.calibration import present_profile
    from ..tuner.predict.store import PredictionStore

    with PredictionStore() as store:
        predictor = Predictor(profile=present_profile(), store=store)
        forecasts = predictor.survey(drawn, int(_FILLED * BUDGET_BYTES), LAUNCH)
    fitting = [c for c, forecast in zip(drawn, forecasts, strict=True) if not forecast.is_over]
    return in_turn(fitting)[:count]


def in_turn(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first of every model, the second of every model, and so on."""
    by_model = {model: [c for c in candidates if c.model == model] for model in MODELS}
    longest = max(map(len, by_model.values()), default=0)
    return [found[i] for i in range(longest) for found in by_model.values() if i < len(found)]


def compile_kernels(candidates: Sequence[Candidate]) -> None:
    """Compile in several processes at once; Triton keeps the kernels on disk."""
    from . import prediction_cases

    small = [replace(c, batch_size=min(c.batch_size, 2)) for c in candidates]
    with ProcessPoolExecutor(_COMPILING, get_context("spawn")) as pool:
        list(pool.map(prediction_cases.compile_kernels, small))


def measure_pairs(
    candidates: Sequence[Candidate],
    make: Make,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Pair]:
    """Each candidate measured by two fresh workers, until the next pair would not be done in time."""
    begin = clock()
    longest = 0.0
    earlier: list[Record] = []
    for candidate in candidates:
        started = clock()
        if started - begin + longest > seconds:
            return
        found = []
        for _ in range(2):
            with make(earlier) as measurer:
                found.append(measurer.measure(candidate))
            earlier.append(record_of(candidate, found[-1], number=len(earlier), budget_bytes=BUDGET_BYTES))
        yield Pair(candidate=candidate, first=found[0], second=found[1], seconds=clock() - started)
        longest = max(longest, clock() - started)


def read_pairs(folder: Path | None, ran_on: dict[str, Any]) -> list[Pair]:
    """What an earlier run of the same command left; nothing where it ran on another GPU or software."""
    if folder is None or not (folder / "results.json").exists():
        return []
    then = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    if any(then[key] != ran_on[key] for key in ("gpu", "driver", "torch", "triton")):
        return []
    return [
        Pair.from_dict(pair)
        for pair in json.loads((folder / "results.json").read_text(encoding="utf-8"))["pairs"]
    ]


def write_results(
    pairs: Sequence[Pair], folder: Path, settings: dict[str, Any], ran_on: dict[str, Any]
) -> None:
    """results.json, environment.json and report.md of the pairs so far."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {**settings, "summary": summary_of(pairs), "pairs": [pair.to_dict() for pair in pairs]}
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(ran_on, indent=1) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(report_of(pairs, ran_on["gpu"], BUDGET_BYTES), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=330.0, help="of measuring")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    device: Literal["cuda", "cpu"] = arguments.device
    ran_on = environment()  # once, and before: it may open a context on the card
    timing = Timing(timeout_s=max(60.0, arguments.seconds))
    drawn = draw((1 if device == "cpu" else 6) * arguments.count, arguments.seed, device)
    chosen = drawn if device == "cpu" else choose_fitting(drawn, arguments.count)
    pairs = read_pairs(arguments.output, ran_on)
    known = {pair.candidate.digest() for pair in pairs}
    left = [candidate for candidate in chosen if candidate.digest() not in known]
    if device == "cuda":
        compile_kernels(left)
    settings = {"budget_bytes": BUDGET_BYTES, "seed": arguments.seed, "timing": timing.model_dump()}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def make(earlier: Sequence[Record]) -> WorkerMeasurer:
            return WorkerMeasurer(
                device=device,
                budget_bytes=BUDGET_BYTES,
                reserve_bytes=0,
                log_dir=Path(folder),
                timing=timing,
                earlier=earlier,
            )

        for pair in measure_pairs(left, make, arguments.seconds):
            pairs.append(pair)
            print(pair.sentence(), flush=True)
            if arguments.output is not None:  # what is measured is kept if a later pair does not end
                write_results(pairs, arguments.output, settings, ran_on)
    if not any(pair.is_measured for pair in pairs):
        outcomes = ", ".join(str(pair.first.outcome) for pair in pairs) or "nothing"
        print(
            f"repeatability: expected at least one configuration measured in {arguments.seconds:g} s, got "
            f"{outcomes}; give more --seconds, or see what `phase8-tune doctor` says",
            file=sys.stderr,
        )
        sys.exit(4 if pairs and pairs[0].first.outcome is Outcome.ERROR else 2)
    print(report_of(pairs, ran_on["gpu"], BUDGET_BYTES))
    print(json.dumps(summary_of(pairs)))


if __name__ == "__main__":
    main()
