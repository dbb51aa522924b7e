"""Predicted against measured, on the GPU that is here: memory, what fits under a cap, throughput.

    python -m phase8_tune.benchmarks.prediction [--count 72] [--seed 0] [--saves]
        [--only memory|throughput] [--calibrate] [--gpu NAME] [--output DIR]
    python -m phase8_tune.benchmarks.prediction --record FILE

Random configurations (seeded) are predicted in other processes, without the GPU. Memory: each is trained some
steps in a new process, as many processes at once as the card takes; where the peaks leave in doubt whether it
fits under a cap, once more under that cap; a few alone, for what NVML counts. Throughput: each is timed in
this process (`quiet_core`). Prints tables and one JSON line; writes results.json, environment.json and
report.md into DIR. --record stores what torch's allocator writes down on this GPU for some configurations,
the fixture of the tests.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from ..tuner.predict.fits import LAUNCH
from ..tuner.predict.lines import Answer, Question, line_key
from ..tuner.predict.prediction import Predictor
from ..tuner.predict.rate.calibration import calibrate_present, present_profile
from ..tuner.predict.rate.profiles import GpuProfile, gpu_profile
from ..tuner.predict.store import PredictionStore
from ..tuner.values.candidate import Candidate
from .allocator_history import record
from .environment import environment
from .fresh_processes import in_fresh_processes
from .prediction_cases import MeasuredPeaks, Task, clean, draw, peaks_of, step_blocks
from .prediction_report import report_of, summary_of
from .quiet_core import on_fastest_core, undisturbed_s

GIB = 1 << 30
CAPS_GIB = (4, 6, 8, 12)
LARGEST_BYTES = 48 * GIB  # larger configurations are left out, and what the card has no room for
PROCESS_RUNS = 8
_OUTSIDE_BYTES = 1 * GIB  # of a process beside what torch reserves, for sharing the card
_AT_ONCE = 10  # processes

Row = dict[str, Any]


def main() -> None:
    arguments = _parse()
    if arguments.record is not None:
        record(arguments.record)
        print(f"{arguments.record}: {arguments.record.stat().st_size} bytes")
        return
    profile = _profile(arguments)
    largest = min(LARGEST_BYTES, _room_bytes() - _OUTSIDE_BYTES)
    with PredictionStore() as store:
        drawn = draw(2 * arguments.count, arguments.seed, saves=arguments.saves)
        start = time.monotonic()
        answers = _ask(store, profile, drawn, None)
        predicting_s = time.monotonic() - start
        chosen = [
            (candidate, answer)
            for candidate, answer in zip(drawn, answers, strict=True)
            if answer.reserved_bytes is not None and answer.reserved_bytes < largest
        ][: arguments.count]
        print(f"{len(drawn)} configurations predicted in {predicting_s:.1f} s, {len(chosen)} to be measured")
        if not chosen:
            _fail(
                f"expected configurations that reserve less than {largest / GIB:.0f} GiB, got none "
                f"of the {len(drawn)} drawn; draw more with --count or others with --seed"
            )
        predictor = Predictor(profile=profile, store=store)
        rows: list[Row] = [_predicted(case, answer, predictor) for case, answer in chosen]
        decisions: list[Row] = []
        processes: list[Row] = []
        if arguments.only != "throughput":
            decisions, processes = _measure_memory(rows, store, predictor)
    if arguments.only != "memory":
        _measure_throughput(rows)
    summary = summary_of(rows, decisions, processes)
    report = report_of(rows, summary)
    print(report)
    print(json.dumps(summary))
    if arguments.output is not None:
        results = {
            "profile": profile.model_dump(),
            "predicting_s": predicting_s,
            "configurations": [{k: v for k, v in row.items() if k != "case"} for row in rows],
            "summary": summary,
            "caps": decisions,
            "processes": processes,
        }
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        (arguments.output / "environment.json").write_text(
            json.dumps(environment(), indent=1), encoding="utf-8"
        )
        (arguments.output / "report.md").write_text(report + "\n", encoding="utf-8")


def _fail(message: str) -> NoReturn:
    print(f"prediction: {message}", file=sys.stderr)
    raise SystemExit(2)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=72)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--saves", action="store_true", help="with small state and other checkpointing")
    parser.add_argument("--only", choices=("memory", "throughput"))
    parser.add_argument("--gpu", help="profile to predict with; default: the card's own")
    parser.add_argument("--calibrate", action="store_true", help="measure the card's figures first")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--record", type=Path)
    return parser.parse_args()


def _profile(arguments: argparse.Namespace) -> GpuProfile:
    if arguments.calibrate:
        with on_fastest_core():
            return calibrate_present()
    return present_profile() if arguments.gpu is None else gpu_profile(arguments.gpu)


def _ask(
    store: PredictionStore, profile: GpuProfile, cases: Sequence[Candidate], cap: int | None
) -> list[Answer]:
    workspaces = profile.workspaces()
    return store.ask(
        [
            (
                line_key(case, profile),
                Question(batch_size=case.batch_size, cap_bytes=cap, workspaces=workspaces),
            )
            for case in cases
        ]
    )


def _predicted(case: Candidate, answer: Answer, predictor: Predictor) -> Row:
    step = predictor.step(case, answer)
    return {
        "case": case,
        "candidate": case.to_dict(),
        "description": case.describe(),
        "predicted_allocated_bytes": answer.allocated_bytes,
        "predicted_reserved_bytes": answer.reserved_bytes,
        "peak": f"{answer.peak_op} ({answer.peak_phase})",
        "predicted_step_s": step.step_s,
        "predicted_host_s": step.host_s,
        "predicted_gpu_s": step.gpu_s,
        "limited_by": step.limited_by,
    }


def _measure_memory(
    rows: Sequence[Row], store: PredictionStore, predictor: Predictor
) -> tuple[list[Row], list[Row]]:
    """Adds the measured peaks to the rows; returns decisions under caps, and processes as NVML sees them."""
    measured = _run([Task(row["case"]) for row in rows], [row["predicted_reserved_bytes"] for row in rows])
    for row, peaks in zip(rows, _all_fit(rows, measured), strict=True):
        for name, value in (("allocated", peaks.allocated_bytes), ("reserved", peaks.reserved_bytes)):
            row[f"measured_{name}_bytes"] = value
            row[f"{name}_error"] = row[f"predicted_{name}_bytes"] / value - 1
    decisions = _decide(rows, store, predictor.profile)
    large = [row for row in rows if row["measured_reserved_bytes"] > 2 * GIB][:PROCESS_RUNS]
    alone = _all_fit(large, in_fresh_processes(peaks_of, [Task(row["case"]) for row in large]))
    return decisions, [_process(row, peaks, predictor) for row, peaks in zip(large, alone, strict=True)]


def _all_fit(rows: Sequence[Row], measured: Sequence[MeasuredPeaks | None]) -> list[MeasuredPeaks]:
    """What was measured without a cap."""
    fitting = []
    for row, peaks in zip(rows, measured, strict=True):
        if peaks is None:
            _fail(
                f"{row['description']}: expected it to fit without a cap, got out of memory; "
                "end other programs on the card and run again"
            )
        fitting.append(peaks)
    return fitting


def _room_bytes() -> int:
    """What the card has for all processes together."""
    return torch.cuda.mem_get_info()[0] - _OUTSIDE_BYTES


def _run(tasks: Sequence[Task], reserved_bytes: Sequence[int]) -> list[MeasuredPeaks | None]:
    return in_fresh_processes(
        peaks_of,
        tasks,
        needs_bytes=[size + _OUTSIDE_BYTES for size in reserved_bytes],
        room_bytes=_room_bytes(),
        at_once=min(_AT_ONCE, max(1, (os.cpu_count() or 1) * 2 // 3)),
    )


def _decide(rows: Sequence[Row], store: PredictionStore, profile: GpuProfile) -> list[Row]:
    """Predicted and real decisions under caps: where the peaks leave no doubt by them, else by running.

    A search launches what fits with a margin below the cap (`fits.LAUNCH`).
    """
    decisions, doubtful = [], []
    for cap in (gib * GIB for gib in CAPS_GIB):
        answers = _ask(store, profile, [row["case"] for row in rows], cap)
        narrower = _ask(store, profile, [row["case"] for row in rows], LAUNCH.cap_bytes(cap))
        for row, answer, with_margin in zip(rows, answers, narrower, strict=True):
            decision = {
                "description": row["description"],
                "cap_bytes": cap,
                "predicted_fits": answer.fits,
                "is_launched": with_margin.fits,
                "fits": row["measured_reserved_bytes"] <= cap,
                "decided_by": "reserved without a cap",
            }
            if row["measured_allocated_bytes"] > cap:
                decision["decided_by"] = "allocated without a cap"
            elif not decision["fits"]:
                decision["decided_by"] = "run under the cap"
                doubtful.append((decision, Task(row["case"], cap)))
            decisions.append(decision)
    found = _run([task for _, task in doubtful], [task.cap_bytes or 0 for _, task in doubtful])
    for (decision, _), peaks in zip(doubtful, found, strict=True):
        decision["fits"] = peaks is not None
    return decisions


def _process(row: Row, peaks: MeasuredPeaks, predictor: Predictor) -> Row:
    predicted = row["predicted_reserved_bytes"] + predictor.outside_bytes(row["case"])
    return {
        "description": row["description"],
        "predicted_bytes": predicted,
        "nvml_bytes": peaks.card_bytes,
        "reserved_bytes": peaks.reserved_bytes,
        "error": predicted / peaks.card_bytes - 1,
    }


def _measure_throughput(rows: Sequence[Row]) -> None:
    """Adds the measured step to the rows. Each is timed twice, on the way there and back: what disturbs the
    host for a while does not disturb both."""
    gc.collect()
    gc.freeze()  # what predicting left in this process is not for the steps' collections to go through
    for row in [*rows, *reversed(rows)]:
        start = time.perf_counter()
        clean()
        row.setdefault("blocks_s", []).extend(step_blocks(row["case"]))
        row["measured_step_s"] = undisturbed_s(row["blocks_s"])
        print(
            f"{row['description']}: predicted {1e3 * row['predicted_step_s']:.1f} ms, "
            f"measured {1e3 * row['measured_step_s']:.1f} ms, in {time.perf_counter() - start:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
