"""Predicted against measured, on the GPU that is here: memory, what fits under a cap, throughput.

    python -m phase8_tune.benchmarks.prediction [--count 72] [--seconds 330] [--output DIR] [--gpu NAME]
    python -m phase8_tune.benchmarks.prediction --record FILE

Random configurations (seeded) are predicted in other processes, without the GPU, and then trained a few
steps each in this one. Prints tables and one JSON line; writes results.json, environment.json and report.md
into DIR. --seconds are those of measuring: predicting and compiling the kernels come before.
--record stores what torch's allocator writes down on this GPU for some configurations, the fixture of the
tests.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from ..tuner.candidate import Candidate
from ..tuner.predict.calibration import calibrate_present, present_profile
from ..tuner.predict.events import Workspaces
from ..tuner.predict.lines import Answer, Question, line_key
from ..tuner.predict.prediction import SKIP_MARGIN, Predictor
from ..tuner.predict.profiles import GpuProfile, gpu_profile
from ..tuner.predict.store import PredictionStore
from .allocator_history import record
from .environment import environment
from .prediction_cases import compile_kernels, draw, fits_under, process_peak_bytes, run
from .prediction_report import report_of, summary_of

GIB = 1 << 30
CAPS_GIB = (4, 6, 8, 12)
LARGEST_GIB = 48  # larger configurations are left out
PROCESS_RUNS = 8
_COMPILING = 10  # processes


def main() -> None:
    arguments = _parse()
    if arguments.record is not None:
        record(arguments.record)
        print(f"{arguments.record}: {arguments.record.stat().st_size} bytes")
        return
    if arguments.calibrate:
        profile = calibrate_present()
    else:
        profile = present_profile() if arguments.gpu is None else gpu_profile(arguments.gpu)
    workspaces = profile.workspaces()
    with PredictionStore() as store:
        drawn = draw(2 * arguments.count, arguments.seed)
        start = time.monotonic()
        answers = _ask(store, profile, drawn, None, workspaces)
        predicting_s = time.monotonic() - start
        chosen = [
            (candidate, answer)
            for candidate, answer in zip(drawn, answers, strict=True)
            if answer.reserved_bytes is not None and answer.reserved_bytes < LARGEST_GIB * GIB
        ][: arguments.count]
        print(f"{len(drawn)} configurations predicted in {predicting_s:.1f} s, {len(chosen)} to be measured")
        if not chosen:
            _fail(
                f"expected configurations that reserve less than {LARGEST_GIB} GiB, got none "
                f"of the {len(drawn)} drawn; draw more with --count or others with --seed"
            )
        _compile([candidate for candidate, _ in chosen])
        predictor = Predictor(profile=profile, store=store)
        deadline = time.monotonic() + arguments.seconds
        rows = _measure(chosen, predictor, deadline - 0.3 * arguments.seconds)
        if not rows:
            _fail(
                f"--seconds: expected time to measure at least one of {len(chosen)} configurations, "
                f"got {arguments.seconds:g} s and measured none; give more"
            )
        caps = _decide(rows, store, profile, workspaces, deadline)
    processes = _processes(rows, predictor, deadline)
    summary = summary_of(rows, caps, processes)
    results = {
        "profile": profile.model_dump(),
        "predicting_s": predicting_s,
        "configurations": [{k: v for k, v in row.items() if k != "case"} for row in rows],
        "summary": summary,
        "caps": caps,
        "processes": processes,
    }
    report = report_of(rows, summary)
    print(report)
    print(json.dumps(summary))
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "results.json").write_text(json.dumps(results, indent=1))
        (arguments.output / "environment.json").write_text(json.dumps(environment(), indent=1))
        (arguments.output / "report.md").write_text(report + "\n", encoding="utf-8")


def _fail(message: str) -> NoReturn:
    print(f"prediction: {message}", file=sys.stderr)
    raise SystemExit(2)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=72)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=330.0, help="of measuring")
    parser.add_argument("--gpu", help="profile to predict with; default: the card's own")
    parser.add_argument("--calibrate", action="store_true", help="measure the card's figures first")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--record", type=Path)
    return parser.parse_args()


def _ask(
    store: PredictionStore,
    profile: GpuProfile,
    cases: Sequence[Candidate],
    cap: int | None,
    workspaces: Workspaces,
) -> list[Answer]:
    return store.ask(
        [
            (
                line_key(case, profile),
                Question(batch_size=case.batch_size, cap_bytes=cap, workspaces=workspaces),
            )
            for case in cases
        ]
    )


def _compile(cases: Sequence[Candidate]) -> None:
    """Compile all kernels at once in several processes; Triton keeps them on disk."""
    start = time.monotonic()
    small = [
        Candidate.from_dict({**case.to_dict(), "batch_size": min(case.batch_size, 2)})
        for case in cases
        if case.kernel_version != "reference"
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_COMPILING, context) as pool:
        done = list(pool.map(compile_kernels, small))
    print(f"{len(done)} configurations' kernels compiled in {time.monotonic() - start:.1f} s", flush=True)


def _measure(
    chosen: Sequence[tuple[Candidate, Answer]], predictor: Predictor, deadline: float
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    gc.collect()
    gc.freeze()  # what predicting left in this process is not for the steps' collections to go through
    for case, answer in chosen:
        if time.monotonic() > deadline:
            print(f"time is up after {len(rows)} configurations")
            break
        measured = run(case)
        step = predictor.step(case, answer)
        assert answer.reserved_bytes is not None  # chosen for it
        rows.append(
            {
                "case": case,
                "candidate": case.to_dict(),
                "description": case.describe(),
                "predicted_allocated_bytes": answer.allocated_bytes,
                "measured_allocated_bytes": measured.allocated_bytes,
                "allocated_error": answer.allocated_bytes / measured.allocated_bytes - 1,
                "predicted_reserved_bytes": answer.reserved_bytes,
                "measured_reserved_bytes": measured.reserved_bytes,
                "reserved_error": answer.reserved_bytes / measured.reserved_bytes - 1,
                "peak": f"{answer.peak_op} ({answer.peak_phase})",
                "predicted_step_s": step.step_s,
                "measured_step_s": measured.step_s,
                "samples_s": measured.samples_s,
                "limited_by": step.limited_by,
                "measuring_s": measured.seconds,
            }
        )
        print(
            json.dumps({k: v for k, v in rows[-1].items() if k not in ("case", "candidate", "samples_s")}),
            flush=True,
        )
    return rows


def _decide(
    rows: Sequence[dict[str, Any]],
    store: PredictionStore,
    profile: GpuProfile,
    workspaces: Workspaces,
    deadline: float,
) -> list[dict[str, Any]]:
    """Predicted and real decisions under caps: where the peaks leave no doubt by them, else by running.

    A search skips what is over the cap and the prediction's margin beyond it (`Predictor.survey`).
    """
    decisions = []
    cases = [row["case"] for row in rows]
    for cap in (gib * GIB for gib in CAPS_GIB):
        answers = _ask(store, profile, cases, cap, workspaces)
        wider = _ask(store, profile, cases, int(cap * (1 + SKIP_MARGIN)), workspaces)
        for row, answer, with_margin in zip(rows, answers, wider, strict=True):
            if row["measured_reserved_bytes"] <= cap:
                fits, how = True, "reserved without a cap"
            elif row["measured_allocated_bytes"] > cap:
                fits, how = False, "allocated without a cap"
            elif time.monotonic() > deadline:
                continue
            else:
                fits, how = fits_under(row["case"], cap), "run under the cap"
            decisions.append(
                {
                    "description": row["description"],
                    "cap_bytes": cap,
                    "predicted_fits": answer.fits,
                    "is_launched": with_margin.fits,
                    "fits": fits,
                    "decided_by": how,
                }
            )
    return decisions


def _processes(rows: Sequence[dict[str, Any]], predictor: Predictor, deadline: float) -> list[dict[str, Any]]:
    """The whole process as NVML sees it, for a few configurations."""
    seen = []
    for row in [row for row in rows if row["measured_reserved_bytes"] > 2 * GIB][:PROCESS_RUNS]:
        if time.monotonic() > deadline:
            break
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            used, reserved = pool.submit(process_peak_bytes, row["candidate"]).result()
        predicted = row["predicted_reserved_bytes"] + predictor.outside_bytes(row["case"])
        seen.append(
            {
                "description": row["description"],
                "predicted_bytes": predicted,
                "nvml_bytes": used,
                "reserved_bytes": reserved,
                "error": predicted / used - 1,
            }
        )
    return seen


if __name__ == "__main__":
    main()
