"""Whole lives near the border: configurations that are predicted to fit train, evaluate, save, and go on.

    python -m phase8_tune.benchmarks.lives --vram 8GB --count 40 --at-once 12 --output DIR

Draws configurations whose largest batch by prediction (or one within 5 % of it) fills the budget, and runs
each as `phase8-train` does, in two processes under a cap of its own: steps, evaluation and checkpoint in the
first, reading it back and more steps in the second. Several run at once on a large card. DIR/results.json is
gone on with: what it has is not run again, so that a larger --count adds to it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from ..tuner.builtin.phase8.settings import config_of
from ..tuner.predict.fits import RECOMMEND
from ..tuner.predict.prediction import LARGEST_BATCH, Predictor
from ..tuner.predict.rate.calibration import present_profile
from ..tuner.predict.store import PredictionStore
from ..tuner.training.verification import life_request, live
from ..tuner.values.candidate import Candidate
from ..tuner.values.errors import Phase8TuneError
from ..tuner.values.sizes import MIB, parse_size
from .drawn_models import MODELS
from .environment import environment

_NEAR = 0.9  # of the budget; the largest batch of long rows may leave more
_SEQUENCES = (256, 512, 1024, 2048, 4096)
_VERSIONS = (
    "fast",
    "fast",
    "fast",
    "fast",
    "v2",
    "v1",
    "reference",
)  # what is recommended is nearly always fast


def draw(predictor: Predictor, budget_bytes: int, count: int, seed: int) -> list[tuple[Candidate, int]]:
    """(candidate, predicted peak in bytes), each its line's largest batch that fits or within 5 % below."""
    numbers, seen = itertools.count(), set[Candidate]()
    found: list[tuple[Candidate, int]] = []
    while len(found) < count:
        lines: dict[Candidate, float] = {}  # and by how much its batch is below the largest
        while len(lines) < count - len(found):
            draws = random.Random(f"{seed} {next(numbers)}")
            line, below = _drawn_line(draws), draws.uniform(0.0, 0.05)
            if line not in seen:
                seen.add(line)
                lines[line] = below
        found += _near(predictor, budget_bytes, lines)
    return found


def _drawn_line(draws: random.Random) -> Candidate:
    version = draws.choice(_VERSIONS)
    return Candidate(
        model=draws.choice(MODELS if version == "fast" else MODELS[:3]),
        n_seq=draws.choice(_SEQUENCES),
        batch_size=0,
        kernel_version=version,
        gradient_checkpointing=draws.random() < 0.3,
        mixed_precision=draws.choice(("bf16", "bf16", "fp16")),
    )


def _near(
    predictor: Predictor, budget_bytes: int, lines: Mapping[Candidate, float]
) -> list[tuple[Candidate, int]]:
    """Those of the lines that have a batch near the border."""
    batches = range(1, LARGEST_BATCH + 1)
    outlooks = predictor.look_ahead([(line, batches) for line in lines], budget_bytes, RECOMMEND)
    chosen = [
        outlook.line.at(outlook.largest - int(outlook.largest * below))
        for outlook, below in zip(outlooks, lines.values(), strict=True)
        if outlook.largest
    ]
    predictions = predictor.predict_all(chosen, budget_bytes)
    return [(p.candidate, p.peak_bytes) for p in predictions if p.peak_bytes > _NEAR * budget_bytes]


def run(candidate: Candidate, predicted_bytes: int, budget_bytes: int, steps: int) -> dict[str, Any]:
    """One configuration's life; what failed is told in `error`."""
    config = config_of(candidate)
    settings = {
        "d_model": config.d_model,
        "n_layers": config.n_layers,
        "n_seq": config.n_seq,
        "batch_size": candidate.batch_size,
        "model": candidate.model,
        "use_triton_kernel": candidate.kernel_version != "reference",
        "triton_kernel_version": candidate.kernel_version,
        "gradient_checkpointing": candidate.gradient_checkpointing,
        "mixed_precision": candidate.mixed_precision,
    }
    row: dict[str, Any] = {
        "candidate": candidate.to_dict(),
        "digest": candidate.digest(),
        "budget_bytes": budget_bytes,
        "predicted_peak_bytes": predicted_bytes,
        "error": None,
    }
    with tempfile.TemporaryDirectory(prefix="phase8-lives-") as folder:
        path = Path(folder) / "settings.yaml"
        path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        request = life_request(path, Path(folder), budget_bytes, steps=steps)
        try:
            lives = [live(path, request)]
            lives.append(live(path, request | {"steps": 2 * steps}))
        except Phase8TuneError as error:
            return row | {"error": str(error)}
    highest = max(lives, key=lambda life: life.peak_bytes)
    return row | {
        "peak_bytes": highest.peak_bytes,
        "peak_source": highest.peak_source,
        "lives": [asdict(life) for life in lives],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vram", default="8GB")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--at-once", type=int, default=12)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--seed", type=int, default=2211)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    budget_bytes = parse_size(arguments.vram, what="--vram")
    kept = arguments.output / "results.json"
    rows = json.loads(kept.read_text(encoding="utf-8"))["rows"] if kept.exists() else []
    done = {row["digest"] for row in rows}
    with PredictionStore() as store:
        predictor = Predictor(profile=present_profile(), store=store)
        drawn = draw(predictor, budget_bytes, arguments.count, arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(environment(), indent=1)
    (arguments.output / "environment.json").write_text(text, encoding="utf-8")
    print(f"{len(drawn)} drawn, {len(done)} done", flush=True)
    with ThreadPoolExecutor(arguments.at_once) as pool:
        waiting = [
            pool.submit(run, candidate, peak, budget_bytes, arguments.steps)
            for candidate, peak in drawn
            if candidate.digest() not in done
        ]
        for future in as_completed(waiting):
            rows.append(future.result())
            kept.write_text(json.dumps({"rows": rows}, indent=1), encoding="utf-8")
            (arguments.output / "report.md").write_text(f"# Whole lives\n\n{render(rows)}", encoding="utf-8")
            print(_line(rows[-1]), flush=True)
    print(render(rows))


def _line(row: dict[str, Any]) -> str:
    candidate = Candidate.from_dict(row["candidate"])
    found = row["error"] or f"{row['peak_bytes'] / MIB:,.0f} MB"
    return f"{candidate.describe()}: {found}"


def render(rows: list[dict[str, Any]]) -> str:
    """A table, and how many of the lives ran out of memory or over the budget."""
    lived = [row for row in rows if row["error"] is None]
    refused = sum("out of memory" in (row["error"] or "") for row in rows)
    over = sum(row["peak_bytes"] > row["budget_bytes"] for row in lived)
    table = tabulate(
        [
            (
                Candidate.from_dict(row["candidate"]).describe(),
                f"{row['predicted_peak_bytes'] / MIB:,.0f}",
                f"{row['peak_bytes'] / MIB:,.0f}",
                f"{row['peak_bytes'] / row['predicted_peak_bytes'] - 1:+.2%}",
            )
            for row in lived
        ],
        headers=("configuration", "predicted peak (MB)", "peak (MB)", "off by"),
        tablefmt="github",
        colalign=("left", "right", "right", "right"),
        disable_numparse=True,
    )
    failed = "".join(
        f"\n- {Candidate.from_dict(row['candidate']).describe()}: {row['error']}"
        for row in rows
        if row["error"]
    )
    return (
        f"{len(rows)} lives (steps, evaluation, checkpoint written and read back by another process, steps): "
        f"{refused} ran out of memory, {over} took more than the budget, {len(rows) - len(lived) - refused} "
        f"failed otherwise.\n\n{table}\n{failed}\n"
    )


if __name__ == "__main__":
    main()
