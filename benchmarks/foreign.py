"""Models that are not ours, predicted blind and measured: what torch's allocator takes, and what fits.

    python -m phase8_tune.benchmarks.foreign --predict FILE [--count 48] [--seed 16] [--gpu h200]
    python -m phase8_tune.benchmarks.foreign --measure FILE [--output DIR] [--at-once 14]

--predict draws configurations and predicts them, without a GPU, in several processes. --measure runs each on
the GPU that is here, in a process of its own, many at once: the setup, four steps and an evaluation; where
its peaks leave in doubt whether it fits under a cap, once more under that cap. Writes results.json,
environment.json and report.md into DIR, and events.json.gz: what the
allocator wrote down of a few configurations of every model. What is not predicted is said, and not counted
as right.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import random
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..tuner.predict.foreign import training_line
from ..tuner.predict.jobs import prepare_process
from ..tuner.predict.lines import Question
from ..tuner.predict.rate.profiles import gpu_profile
from ..tuner.predict.trace.not_traceable import NotTraceable
from ..tuner.workloads.stepping import TrainingStepper
from ..tuner.workloads.training import Build
from .environment import environment
from .foreign_models import FACTORIES
from .foreign_report import compare, report_of
from .foreign_room import Room

GIB = 1 << 30
CAPS_GIB = (4, 6, 8, 12)
STEPS = 4
_LARGEST_BYTES = 20 * GIB
_BATCHES = {
    "gpt2": (4, 6, 8, 12, 16, 24), "llama": (4, 8, 12, 16, 24, 32), "bert": (8, 16, 24, 32, 48),
    "t5": (4, 6, 8, 12, 16, 24), "vit": (32, 64, 96, 128, 192), "resnet50": (32, 64, 96, 128, 160),
    "unet": (16, 32, 48, 64, 96), "lstm": (32, 48, 64, 96, 128),
}  # fmt: skip

_HISTORIES = 3  # a model

Row = dict[str, Any]


def draw(count: int, seed: int) -> list[Row]:
    """Configurations, of every model as many."""
    numbers = random.Random(seed)
    names = list(FACTORIES)
    return [
        {
            "model": (model := names[place % len(names)]),
            "batch": numbers.choice(_BATCHES[model]),
            "axes": {
                "size": numbers.choice(("base", "base", "small")),
                "n_seq": numbers.choice((128, 256, 512, 509)),
                "precision": numbers.choice(("bf16", "bf16", "fp16", "none")),
                "checkpointing": model != "lstm" and numbers.random() < 0.4,
                "optimizer": numbers.choice(("adamw_fused", "adamw_foreach", "sgd")),
            },
        }
        for place in range(count)
    ]


def predict(case: Row, gpu: str) -> Row:
    """A case with what is predicted of it: peaks under no cap, and whether it fits under each."""
    torch.set_num_threads(1)
    profile = gpu_profile(gpu)
    start = time.monotonic()
    try:
        line = training_line(FACTORIES[case["model"]], partial(_build, case, torch.device("meta")), profile)
        ask = partial(Question, batch_size=case["batch"], workspaces=profile.workspaces())
        free = line.ask(ask(cap_bytes=None))
        fits = {str(cap): line.ask(ask(cap_bytes=cap * GIB)).fits for cap in CAPS_GIB}
    except NotTraceable as error:
        return {**case, "not_predicted": str(error)}
    sizes = line.line.traced[case["batch"]]
    trace = line.line.structures[sizes.structure].trace
    return {
        **case,
        "allocated_bytes": free.allocated_bytes,
        "reserved_bytes": free.reserved_bytes,
        "fits": fits,
        "peak_op": free.peak_op,
        "peak_phase": free.peak_phase,
        "predicting_s": time.monotonic() - start,
        "events": [len(part) for part in trace.parts()],
    }


def _build(case: Row, device: torch.device, batch: int) -> Build:
    return Build(model=case["model"], batch_size=batch, axes=case["axes"], device=device)


def measure(case: Row, cap_gib: int | None, *, records: bool) -> Row:
    """Train a case in this process. cap_gib: what torch may reserve; records: the allocator's history too."""
    device = torch.device("cuda")
    torch.cuda.init()  # type: ignore[no-untyped-call]
    if cap_gib is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(cap_gib * GIB / total)
    if records:
        torch.cuda.memory._record_memory_history("all", context="alloc", stacks="python", max_entries=200_000)
    try:
        training = FACTORIES[case["model"]](_build(case, device, case["batch"]))
        stepper = TrainingStepper(training, "cuda")
        batch = training.batch()
        for _ in range(STEPS):
            stepper.step(batch)
        after_steps = torch.cuda.max_memory_allocated()
        stepper.evaluate(batch)
    except torch.cuda.OutOfMemoryError:
        return {"fits": False}
    torch.cuda.synchronize()
    found: Row = {
        "fits": True,
        "allocated_bytes": torch.cuda.max_memory_allocated(),
        "reserved_bytes": torch.cuda.max_memory_reserved(),
        "allocated_by_steps_bytes": after_steps,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }
    if records:
        entries = torch.cuda.memory._snapshot()["device_traces"][0]
        found["events"] = _history(entries)
    return found


def _history(entries: list[Row]) -> Row:
    """Action, address, size and place of every entry; places are written once."""
    places: dict[str, int] = {}
    history = []
    for entry in entries:
        if entry["action"] != "free_requested":
            frames = [f"{Path(f['filename']).name}:{f['line']}" for f in entry.get("frames", [])[:4]]
            place = places.setdefault(" < ".join(frames), len(places))
            history.append([entry["action"], entry["addr"], entry["size"], place])
    return {"places": list(places), "entries": history}


def _in_process(room: Room, case: Row, cap_gib: int | None, *, records: bool = False) -> Row:
    """`measure` in a process of its own, once there is room for it on the card."""
    request = json.dumps({"case": case, "cap_gib": cap_gib, "records": records})
    expected = cap_gib * GIB if cap_gib is not None else case.get("reserved_bytes") or _LARGEST_BYTES
    with room.taken(expected):
        ended = subprocess.run(
            [sys.executable, "-m", "phase8_tune.benchmarks.foreign", "--one"],
            input=request, capture_output=True, encoding="utf-8", timeout=300, check=False,
        )  # fmt: skip
    if ended.returncode != 0:
        return {"failed": ended.stderr.strip().splitlines()[-1:] or [f"exit code {ended.returncode}"]}
    found: Row = json.loads(ended.stdout.strip().splitlines()[-1])
    return found


def measure_all(rows: list[Row], at_once: int) -> tuple[list[Row], dict[str, Any]]:
    """Rows with what was measured of them, and the events of those that are off."""
    free, _ = torch.cuda.mem_get_info()
    room = Room(free - 4 * GIB)
    with ThreadPoolExecutor(at_once) as pool:
        measured = list(pool.map(lambda row: _in_process(room, row, None), rows))
        rows = [{**row, "measured": found} for row, found in zip(rows, measured, strict=True)]
        doubts = [(row, cap) for row in rows for cap in CAPS_GIB if _is_in_doubt(row["measured"], cap * GIB)]
        again = pool.map(lambda doubt: _in_process(room, *doubt), doubts)
        under = {(id(row), cap): found for (row, cap), found in zip(doubts, again, strict=True)}
        for row in rows:
            found = row["measured"]
            if "failed" not in found:
                found["fits_under"] = {
                    str(cap): under[id(row), cap].get("fits")
                    if (id(row), cap) in under
                    else found.get("reserved_bytes", 1 << 60) <= cap * GIB
                    for cap in CAPS_GIB
                }
        chosen = _recorded(rows)
        histories = pool.map(lambda row: _in_process(room, row, None, records=True), chosen)
        events = {
            str(rows.index(row)): found.get("events") for row, found in zip(chosen, histories, strict=True)
        }
    return rows, events


def _recorded(rows: list[Row]) -> list[Row]:
    """Of every model the few that are furthest off: their histories say what is missing."""
    chosen: list[Row] = []
    for model in FACTORIES:
        ran = [row for row in rows if row["model"] == model and row["measured"].get("allocated_bytes")]
        chosen += sorted(ran, key=_off_by, reverse=True)[:_HISTORIES]
    return chosen


def _is_in_doubt(found: Row, cap_bytes: int) -> bool:
    return bool(found.get("fits")) and found["allocated_bytes"] <= cap_bytes < found["reserved_bytes"]


def _off_by(row: Row) -> float:
    predicted = row.get("allocated_bytes")
    return 1.0 if predicted is None else abs(predicted / row["measured"]["allocated_bytes"] - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--predict", type=Path, metavar="FILE")
    parser.add_argument("--measure", type=Path, metavar="FILE")
    parser.add_argument("--one", action="store_true", help="measure one case, from standard input")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--gpu", default="h200", help="name of the profile to predict for")
    parser.add_argument("--processes", type=int, default=None)
    parser.add_argument("--at-once", type=int, default=14)
    parser.add_argument("--output", type=Path, default=Path("."))
    arguments = parser.parse_args()
    if arguments.one:
        request = json.loads(sys.stdin.read())
        print(json.dumps(measure(request["case"], request["cap_gib"], records=request["records"])))
        return
    if arguments.predict is not None:
        start = time.monotonic()
        cases = draw(arguments.count, arguments.seed)
        # As the tuner's own: they see no GPU, with which autocast would take it for theirs.
        with ProcessPoolExecutor(
            arguments.processes, multiprocessing.get_context("spawn"), initializer=prepare_process
        ) as pool:
            rows = list(pool.map(partial(predict, gpu=arguments.gpu), cases))
        arguments.predict.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        known = sum("not_predicted" not in row for row in rows)
        print(f"{known} of {len(rows)} predicted in {time.monotonic() - start:.1f} s")
    if arguments.measure is not None:
        rows, events = measure_all(
            json.loads(arguments.measure.read_text(encoding="utf-8")), arguments.at_once
        )
        arguments.output.mkdir(parents=True, exist_ok=True)
        for name, content in (
            ("results.json", {"summary": compare(rows), "rows": rows}),
            ("environment.json", environment()),
        ):
            (arguments.output / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
        (arguments.output / "events.json.gz").write_bytes(gzip.compress(json.dumps(events).encode()))
        (arguments.output / "report.md").write_text(report_of(rows), encoding="utf-8")
        print(report_of(rows))
        print(json.dumps(compare(rows)))


if __name__ == "__main__":
    main()
