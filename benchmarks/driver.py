"""What the driver of a search takes for itself: milliseconds a candidate, early and late in a study.

    python -m phase8_tune.benchmarks.driver [--candidates 1050] [--before RESULTS] [--output DIR]

Whole searches in real run directories, with a database and a journal, of measurements that are made up: each
is a little faster than the last, so that no rule of stopping ends a search and the frontier always grows.
Three of them: the rows of a table, which need no sampler; Optuna's TPE; and TPE after forecasts.

The driver's thread is watched: what it does between two records, on the clock and in processor time, less the
wait for the device and the time inside of the sampler and of Python's collector, which stand apart. Prints a
table and one line of JSON; --output writes them with their report into DIR, beside the figures of an earlier
run where --before names its results.json.
"""

from __future__ import annotations

import argparse
import bisect
import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..tuner.measuring.pool import LocalExecutor
from ..tuner.measuring.testing import FormulaMeasurer, formula
from ..tuner.predict.outlook import Outlook, Rung
from ..tuner.predict.rate.throughput import StepEstimate
from ..tuner.search.foresight import Foresight
from ..tuner.search.progress import SearchEvent
from ..tuner.search.search import run_search
from ..tuner.study.definition import SearchSettings, Stall, StudyDefinition, load_definition
from ..tuner.study.space import SearchSpace
from ..tuner.values.candidate import Candidate
from ..tuner.values.measurement import Measurement
from .driver_meter import APART, COLLECTOR, NOTHING, PARTS, REST, SAMPLER, Meter, Spent
from .environment import environment

WINDOWS = ((50, 150), (950, 1050))
"""Candidates between which the mean is taken: from, to."""
LIMIT_MS = 10.0
_BUDGET_BYTES, _NO_BUDGET_BYTES = 8 * 2**30, 2**50
_SMALL_BATCHES = 64
_STALL = Stall(measurements=48, growth=0.0)


@dataclass
class EverFaster(FormulaMeasurer):
    """Measurements from formulas, each a thousandth faster than the last."""

    def measure(self, candidate: Candidate) -> Measurement:
        found = super().measure(candidate)
        faster = 1 + len(self.measured) / 1000
        return found.model_copy(update={"samples_s": tuple(s / faster for s in found.samples_s)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A search to watch."""

    name: str
    definition: StudyDefinition
    budget_bytes: int
    foresight: Foresight | None = None


def cases(candidates: int) -> list[Case]:
    """The searches: each over a space of the default study's candidates, or over as many of them as rows."""
    default = load_definition("default")
    settings = SearchSettings(stall=_STALL)
    axes = default.model_copy(update={"search": settings})
    space, chance = SearchSpace(default), random.Random(0)
    drawn: set[Candidate] = set()
    while len(drawn) < candidates:
        line = chance.choice(space.lines)
        drawn.add(line.at(chance.choice(space.batches(line)[:_SMALL_BATCHES])))
    rows = [{k: v for k, v in c.to_dict().items() if k not in ("workload", "mode")} for c in drawn]
    table = StudyDefinition.model_validate({"name": "rows", "rows": rows, "search": settings})
    return [
        Case(name="rows", definition=table, budget_bytes=_NO_BUDGET_BYTES),
        Case(name="TPE", definition=axes, budget_bytes=_BUDGET_BYTES),
        Case(name="forecasts, TPE", definition=axes, budget_bytes=_BUDGET_BYTES, foresight=_foresight(space)),
    ]


def _foresight(space: SearchSpace) -> Foresight:
    """Outlooks that say what the formula does."""
    return Foresight.of(_outlook(line, space.batches(line)) for line in space.lines)


def _outlook(line: Candidate, batches: Sequence[int]) -> Outlook:
    fitting = bisect.bisect_right(batches, _BUDGET_BYTES, key=lambda batch: formula(line.at(batch))[1])
    largest = batches[fitting - 1] if fitting else 0
    powers = {1 << power for power in range(largest.bit_length())}
    known = sorted(batch for batch in {batches[0], largest, *powers} if batch in batches)
    rungs = {}
    for batch in known:
        step_s, peak_bytes, _ = formula(line.at(batch))
        step = StepEstimate(traffic_s=step_s, arithmetic_s=0.0, floor_s=0.0, host_s=0.0)
        rungs[batch] = Rung(peak_bytes=peak_bytes, step=step)
    return Outlook(line=line, batches=batches, largest=largest, rungs=rungs)


def watch(case: Case, root: Path, candidates: int) -> list[dict[str, Spent]]:
    """Search until so many candidates are settled; what each part had had when each one was."""
    meter, seen = Meter(), []

    def note(event: SearchEvent) -> None:
        if event.last is not None:
            seen.append(meter.settle())
            if len(seen) == candidates:
                raise KeyboardInterrupt

    measurer = EverFaster(case.budget_bytes)
    with meter.watching(), LocalExecutor({"made up": measurer}, on_loss=print) as pool:
        run_search(
            case.definition,
            pool,
            root,
            budget_bytes=case.budget_bytes,
            on_event=note,
            foresight=case.foresight,
        )
    return seen


def summarise(case: str, seen: Sequence[Mapping[str, Spent]]) -> list[dict[str, Any]]:
    """Means over the windows, in milliseconds a candidate; `asked`: how often the sampler was, for each."""
    results = []
    for first, last in WINDOWS:
        if last > len(seen):
            continue
        wall_ms, cpu_ms, calls = (
            {
                part: (had[kind] - seen[first - 1].get(part, NOTHING)[kind]) / (last - first) * unit
                for part, had in seen[last - 1].items()
            }
            for kind, unit in ((0, 1000), (1, 1000), (2, 1))
        )
        mine = [part for part in sorted(wall_ms) if part not in APART]
        results.append(
            {
                "search": case,
                "candidates": f"{first} to {last}",
                "asked": round(calls.get("ask", 0.0), 2),
                "driver_ms": round(sum(wall_ms[part] for part in mine), 3),
                "driver_cpu_ms": round(sum(cpu_ms[part] for part in mine), 3),
                "sampler_ms": round(wall_ms.get(SAMPLER, 0.0), 3),
                "sampler_cpu_ms": round(cpu_ms.get(SAMPLER, 0.0), 3),
                "collector_cpu_ms": round(cpu_ms.get(COLLECTOR, 0.0), 3),
                "parts_ms": {part: round(wall_ms[part], 3) for part in mine},
                "parts_cpu_ms": {part: round(cpu_ms[part], 3) for part in mine},
            }
        )
    return results


def table_of(results: Sequence[Mapping[str, Any]], *, form: str = "simple") -> str:
    """The results for people: milliseconds a candidate, and every part's share of the processor's time."""
    parts = [*[part for part in PARTS if part not in APART], REST]
    rows = []
    for result in results:
        of_parts = result.get("parts_cpu_ms", result["parts_ms"])  # earlier runs had the clock's alone
        shares = [of_parts.get(part, 0.0) / sum(of_parts.values()) for part in parts]
        rows.append(
            [
                result["search"],
                result["candidates"],
                f"{result['asked']:.1f}" if "asked" in result else "",
                f"{result['driver_cpu_ms']:.1f}",
                f"{result['driver_ms']:.1f}",
                f"{result['sampler_ms']:.1f}",
                f"{result['collector_cpu_ms']:.1f}" if "collector_cpu_ms" in result else "",
                *(f"{share:.0%}" for share in shares),
            ]
        )
    times = ["driver's CPU ms", "on the clock", "sampler ms", "collector ms"]
    headers = ["search", "candidates", "asked", *times, *parts]
    return tabulate(rows, headers=headers, tablefmt=form, disable_numparse=True)


def report_of(results: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> str:
    """The figures in Markdown, under those of an earlier run where there is one."""
    text = "# What the driver takes for a candidate\n\n"
    if before:
        text += f"Before:\n\n{table_of(before, form='github')}\n\nAfter:\n\n"
    return f"{text}{table_of(results, form='github')}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--candidates", type=int, default=WINDOWS[-1][1])
    parser.add_argument("--before", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    earlier = options.before
    before = [] if earlier is None else json.loads(earlier.read_text(encoding="utf-8"))["results"]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases(options.candidates)):
            results += summarise(case.name, watch(case, Path(folder) / str(number), options.candidates))
    print(table_of(results))
    print(json.dumps(results))
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        found = {"limit_ms": LIMIT_MS, "results": results, "before": before}
        machine = json.dumps(environment(), indent=1) + "\n"
        (options.output / "environment.json").write_text(machine, encoding="utf-8")
        (options.output / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (options.output / "report.md").write_text(report_of(results, before), encoding="utf-8")


if __name__ == "__main__":
    main()
