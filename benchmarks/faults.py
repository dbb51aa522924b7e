"""Every fault that a study must survive, injected and counted: records lost, records double, processes left.

    python -m phase8_tune.benchmarks.faults --output DIR          fakes, and the real worker on the CPU
    python -m phase8_tune.benchmarks.faults --gpu --output DIR    the real worker on the GPU

What DIR holds already of the same device and software is kept: cases that are run again are added to it.

Exit code 1 where a record was lost or double, a process stayed, or an outcome was not the right one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .environment import environment
from .fault_cases import (
    MESSAGES,
    PIPE,
    Bench,
    hang_case,
    host_memory_case,
    interference_case,
    memory_case,
    message_case,
    nvml_cases,
    out_of_memory_case,
    pipe_case,
)
from .fault_drivers import (
    add_up,
    full_disk_case,
    interrupted_driver_case,
    killed_driver_case,
    stepping_clock_case,
)
from .fault_endings import ended_driver_case, lost_output_case, small_disk_case
from .fault_harness import FAKES, Tally
from .fault_kills import kill_case
from .fault_processes import MARK, ignore_signals_alone
from .fault_training import WORKER
from .fault_trainings import (
    end_training_case,
    full_training_case,
    kill_training_case,
    lost_output_training_case,
)

Case = Callable[[], Iterator[Tally]]
ENDING = (signal.SIGTERM, signal.SIGHUP)
TRAININGS = (
    "Of `phase8-train` a record is the loss of a step. **Lost**: missing in metrics.jsonl, or other "
    "than in the training that nothing came between. **Double**: a step twice. **Rows unmeasured**: "
    "steps that the last checkpoint does not have. **Measured again**: steps that were done and not "
    "saved, and done again. Every training is finished, and its weights, its best weights and its "
    "checkpoint are compared with those of the undisturbed one to the bit.\n\n"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How often each fault is injected."""

    nvml_trials: int = 20
    worker_kills: int = 200
    real_worker_kills: int = 30
    driver_kills: int = 50
    interrupts: int = 10
    disks: int = 10
    out_of_memory: int = 100
    hangs: int = 3
    messages: int = len(MESSAGES)
    visits: int = 10
    signals: int = 50  # of each kind
    signalled_rows: int = 40
    small_disks: int = 50
    lost_outputs: int = 50
    trainings: int = 50  # faults of each kind
    training_steps: int = 20


def cpu_cases(bench: Bench, counts: Counts) -> dict[str, Case]:
    """The cases that need no GPU, by the name to choose them with."""
    return {
        "nvml": lambda: nvml_cases(bench, counts.nvml_trials),
        "messages": lambda: one(message_case(bench, dict(list(MESSAGES.items())[: counts.messages]))),
        "pipe": lambda: one(pipe_case(bench, PIPE)),
        "memory": lambda: iter((memory_case(bench), host_memory_case(bench, counts.hangs))),
        "hang": lambda: one(hang_case(bench, counts.hangs)),
        "interference": lambda: one(interference_case(bench, counts.visits)),
        "out-of-memory": lambda: one(out_of_memory_case(bench, counts.out_of_memory)),
        "kill": lambda: summed(kill_case(bench, counts.worker_kills, is_real=False)),
        "kill-real": lambda: summed(kill_case(bench, counts.real_worker_kills, is_real=True)),
        "driver-kill": lambda: one(killed_driver_case(bench, counts.driver_kills)),
        "interrupt": lambda: iter(
            interrupted_driver_case(bench, counts.interrupts, is_twice=twice) for twice in (False, True)
        ),
        "disk": lambda: one(full_disk_case(bench, counts.disks)),
        "clock": lambda: one(stepping_clock_case(bench)),
        "end": lambda: iter(
            ended_driver_case(bench, counts.signals, number, counts.signalled_rows) for number in ENDING
        ),
        "small-disk": lambda: one(small_disk_case(bench, counts.small_disks)),
        "output": lambda: one(lost_output_case(bench, counts.lost_outputs)),
        **training_cases(bench, counts.trainings, counts.training_steps),
    }


def training_cases(bench: Bench, times: int, steps: int) -> dict[str, Case]:
    """The cases of `phase8-train`, by the name to choose them with."""
    return {
        "train-kill": lambda: one(kill_training_case(bench, times, steps)),
        "train-end": lambda: iter(end_training_case(bench, times, steps, number) for number in ENDING),
        "train-disk": lambda: one(full_training_case(bench, times, steps)),
        "train-output": lambda: one(lost_output_training_case(bench, times, steps)),
    }


def gpu_cases(bench: Bench, counts: Counts) -> dict[str, Case]:
    """The cases that are shown on a real GPU, by the name to choose them with."""
    return {
        "memory": lambda: one(memory_case(bench)),
        "hang": lambda: one(hang_case(bench, counts.hangs)),
        "interference": lambda: one(interference_case(bench, counts.hangs)),
        "out-of-memory": lambda: one(out_of_memory_case(bench, counts.out_of_memory)),
        "messages": lambda: one(message_case(bench, dict(list(MESSAGES.items())[: counts.messages]))),
        "kill-real": lambda: summed(kill_case(bench, counts.worker_kills, is_real=True)),
    }


def one(tally: Tally) -> Iterator[Tally]:
    yield tally


def summed(tallies: Iterator[Tally]) -> Iterator[Tally]:
    found = list(tallies)
    yield add_up(found, injected=sum(tally.injected for tally in found), unexpected=[])


def run_cases(cases: dict[str, Case], told: Callable[[Tally], None]) -> None:
    """All cases in their order; each is told as soon as it is known."""
    for case in cases.values():
        for tally in case():
            told(tally)


def table_of(tallies: Sequence[Tally], tablefmt: str) -> str:
    rows = [
        (
            tally.case,
            tally.worker,
            tally.injected,
            tally.records,
            tally.lost,
            tally.doubled,
            tally.left_behind,
            tally.unfinished,
            tally.in_flight,
            ", ".join(f"{count} {outcome}" for outcome, count in sorted(tally.outcomes.items())),
        )
        for tally in tallies
    ]
    headers = (
        *("fault", "worker", "injected", "records", "lost", "double", "processes left", "rows unmeasured"),
        *("measured again", "outcomes in the records"),
    )
    return tabulate(rows, headers=headers, tablefmt=tablefmt)


def report_of(tallies: Sequence[Tally], ran_on: dict[str, Any]) -> str:
    """The table a person reads, with what the columns mean and what was not right."""
    wrong = [f"- {tally.case}: {said}" for tally in tallies for said in tally.unexpected]
    total, lost, doubled, left = (
        sum(getattr(tally, name) for tally in tallies)
        for name in ("injected", "lost", "doubled", "left_behind")
    )
    return (
        f"# {total} faults injected: {lost} records lost, {doubled} double, {left} processes left behind\n\n"
        f"Ran on {ran_on['gpu']}.\n\n"
        f"{table_of(tallies, 'github')}\n\n"
        "Each case is a whole study that ends with every row settled. **Worker**: fake is a process of the "
        "tests that misbehaves on command, real is the worker that measures. **Lost**: measured and not in "
        "records.jsonl; where the driver was killed, records that were there before and are not afterwards. "
        "**Double**: the same attempt of a configuration twice, a record of nothing that was measured, or an "
        "Optuna trial too many, too few or left running. **Processes left**: of the case, after it. "
        "**Measured again**: measured, but its driver ended before the record was written.\n\n"
        + (TRAININGS if any(tally.worker == WORKER for tally in tallies) else "")
        + ("Outcomes that were not the right ones:\n\n" + "\n".join(wrong) + "\n" if wrong else "")
        + "What it does not show: other ways to fail than these.\n"
    )


def read_tallies(folder: Path | None, ran_on: dict[str, Any]) -> list[Tally]:
    """What an earlier run left in the folder; nothing where it ran on something else."""
    if folder is None or not (folder / "results.json").exists():
        return []
    then = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    if any(then[key] != ran_on[key] for key in ("gpu", "driver", "torch", "triton")):
        return []
    cases = json.loads((folder / "results.json").read_text(encoding="utf-8"))["cases"]
    return [Tally.from_dict(case) for case in cases]


def merge(tallies: Sequence[Tally]) -> list[Tally]:
    """One tally for each case and worker, in the order of their first."""
    by_case: dict[tuple[str, str], list[Tally]] = {}
    for tally in tallies:
        by_case.setdefault((tally.case, tally.worker), []).append(tally)
    return [
        add_up(found, injected=sum(t.injected for t in found), unexpected=[]) for found in by_case.values()
    ]


def write_results(tallies: Sequence[Tally], folder: Path, ran_on: dict[str, Any]) -> None:
    """results.json, environment.json and report.md of what is known so far."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {"cases": [tally.to_dict() for tally in tallies]}
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(ran_on, indent=1) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(report_of(tallies, ran_on), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="the cases of a real GPU, on it")
    parser.add_argument("--only", nargs="*", help="of the cases, these")
    parser.add_argument("--kills", type=int, default=Counts().worker_kills, help="SIGKILLs of a worker")
    parser.add_argument(
        "--times",
        type=int,
        default=Counts().trainings,
        help="signals that end, disks of a run, lost outputs, of each",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    counts = Counts(
        worker_kills=arguments.kills,
        signals=arguments.times,
        small_disks=arguments.times,
        lost_outputs=arguments.times,
        trainings=arguments.times,
    )
    prepare_environment()
    ran_on = environment()  # once, and before: it may open a context on the card
    tallies = read_tallies(arguments.output, ran_on)

    def tell(tally: Tally) -> None:
        tallies[:] = merge([*tallies, tally])
        print(json.dumps(tally.to_dict()), flush=True)
        if arguments.output is not None:  # what is known is kept if a later case does not end
            write_results(tallies, arguments.output, ran_on)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        bench = Bench(folder=Path(folder), device="cuda" if arguments.gpu else "cpu", seed=arguments.seed)
        cases = (gpu_cases if arguments.gpu else cpu_cases)(bench, counts)
        unknown = set(arguments.only or ()) - cases.keys()
        if unknown:
            parser.error(f"--only: expected some of {', '.join(cases)}, got {', '.join(sorted(unknown))}")
        run_cases({name: cases[name] for name in arguments.only or cases}, tell)
    print(table_of(tallies, "simple"))
    sys.exit(0 if all(tally.is_clean for tally in tallies) else 1)


def prepare_environment() -> None:
    """What the processes of the cases inherit: their mark, and where the workloads that misbehave lie; no
    signal that is ignored."""
    ignore_signals_alone()
    os.environ[MARK] = uuid.uuid4().hex
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(FAKES), os.environ.get("PYTHONPATH"))))


if __name__ == "__main__":
    main()
