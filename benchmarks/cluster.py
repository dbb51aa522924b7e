"""One study over a cluster: with faults in it, and how fast it is without.

    python -m phase8_tune.benchmarks.cluster [--output DIR] [--skip-faults] [--skip-rates]

All nodes are on this computer and their GPUs are pretended, so that a measurement takes as long as it is told
to; Ray, PostgreSQL, the driver, its workers' processes, journal and database are real. Three parts:

- faults: 200 candidates of one second over four nodes, while nodes are killed at twenty random moments and
  added again, the database is restarted twice and away for a minute, and the driver is killed twice;
- throughput: the same without faults over one node and over four;
- the driver: 64 GPUs whose measurements take no time, so that the driver is what they wait for, with and
  without a database.

Prints a table and one line of JSON; --output writes results, environment and report into DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from tabulate import tabulate

from .cluster_faults import run_faults
from .cluster_rates import Rate, measure_rate
from .environment import environment
from .postgres_server import PostgresServer

T = TypeVar("T")
LEAST_SPEEDUP, LEAST_PER_S = 3.8, 100.0
_FAULTS = {"candidates": 200, "nodes": 4, "node_kills": 20, "restarts": 2, "driver_kills": 2}
_AWAY_S = 60.0


def _apart(measure: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """What it returns from a process of its own: Ray ends one whose first cluster is no more."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(measure, *arguments, **options).result()


def rates(folder: Path) -> dict[str, Any]:
    """Over one node and four; of 64 GPUs without and with a database."""
    taking_a_second = {"gpus_each": 1, "takes_s": 1.0, "storage": None}
    alone = _apart(measure_rate, folder / "one", nodes=1, candidates=30, **taking_a_second)
    four = _apart(measure_rate, folder / "four", nodes=4, candidates=120, **taking_a_second)
    many = {"nodes": 1, "gpus_each": 64, "takes_s": 0.0, "candidates": 2000}
    bare = _apart(measure_rate, folder / "many", storage=None, **many)
    with PostgresServer() as server, server.password_known():
        stored = _apart(measure_rate, folder / "stored", storage=server.url, **many)
    return {
        "one_node": alone.to_dict(),
        "four_nodes": four.to_dict(),
        "speedup": round(four.candidates_per_s / alone.candidates_per_s, 3),
        "least_speedup": LEAST_SPEEDUP,
        "driver": bare.to_dict(),
        "driver_with_database": stored.to_dict(),
        "least_per_s": LEAST_PER_S,
    }


def table_of(found: dict[str, Any], form: str = "simple") -> str:
    """The results for people."""
    text = ""
    if "faults" in found:
        rows = [[key.replace("_", " "), _shown(value)] for key, value in found["faults"].items()]
        text += tabulate(rows, headers=["with faults", ""], tablefmt=form, disable_numparse=True) + "\n\n"
    if "rates" in found:
        known = {name: rate for name, rate in found["rates"].items() if isinstance(rate, dict)}
        headers = ["without", *(key.replace("_", " ") for key in Rate.__dataclass_fields__)]
        rows = [[name.replace("_", " "), *rate.values()] for name, rate in known.items()]
        text += tabulate(rows, headers=headers, tablefmt=form, disable_numparse=True) + "\n\n"
        text += f"Four nodes measure {found['rates']['speedup']} times what one does.\n"
    return text


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-faults", action="store_true")
    parser.add_argument("--skip-rates", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PHASE8_TUNE_CACHE"] = str(Path(folder) / "cache")
        found["load_average"] = [round(load, 1) for load in os.getloadavg()]
        if not options.skip_faults:
            account = _apart(
                run_faults, Path(folder) / "faults", seed=options.seed, away_s=_AWAY_S, **_FAULTS
            )
            found["faults"] = account.to_dict()
            print(table_of(found), flush=True)
        if not options.skip_rates:
            found["rates"] = rates(Path(folder) / "rates")
    print(table_of(found))
    print(json.dumps(found))
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        for name, content in (("environment", environment()), ("results", found)):
            (options.output / f"{name}.json").write_text(
                json.dumps(content, indent=1) + "\n", encoding="utf-8"
            )
        report = f"# One study over a cluster of pretended GPUs\n\n{table_of(found, 'github')}"
        (options.output / "report.md").write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
