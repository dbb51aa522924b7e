"""How long a plan takes on this computer: the default study decided cold and warm, and one prediction.

    python -m phase8_tune.benchmarks.planning [--gpu rtx-3080-laptop] [--vram 8GB] [--output DIR]

Predictions are kept in a folder of their own, empty at first. Beside the time on the clock stands the
processors' time of the predicting processes: on a computer that does other work too, that time over the
number of processors is what an idle one would take at least. Prints a table and writes results.json into DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..tuner.machine.environment import driver_versions, processor_name
from ..tuner.predict.prediction import Predictor
from ..tuner.predict.rate.profiles import DEFAULT_PROFILE, gpu_profile
from ..tuner.predict.store import PredictionStore
from ..tuner.search.decisions import decide
from ..tuner.study.definition import load_definition
from ..tuner.values.sizes import parse_size

LIMITS_S = {"cold": 120.0, "warm": 10.0, "one prediction, cold": 5.0}
_PREDICT = ["predict", "--model", "medium", "--seq", "1024", "--batch", "1"]


def timed(what: str, run: Callable[[], Any]) -> dict[str, Any]:
    """The wall time of a run, and the processors' time of the processes that it started and ended."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start_s = time.perf_counter()
    run()
    wall_s = time.perf_counter() - start_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "what": what,
        "wall_s": round(wall_s, 2),
        "children_cpu_s": round(cpu_s, 2),
        "limit_s": LIMITS_S[what],
        "load_average": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gpu", default=DEFAULT_PROFILE)
    parser.add_argument("--vram", default="8GB")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    profile, budget_bytes = gpu_profile(options.gpu), parse_size(options.vram, what="--vram")
    definition = load_definition("default")
    with tempfile.TemporaryDirectory() as folder:

        def plan() -> None:
            with PredictionStore(Path(folder) / "plan") as store:
                decide(definition, Predictor(profile=profile, store=store), budget_bytes)

        def predict() -> None:
            command = [sys.executable, "-m", "phase8_tune.tuner.cli", *_PREDICT, "--gpu", options.gpu]
            one = os.environ | {"PHASE8_TUNE_CACHE": str(Path(folder) / "one")}
            subprocess.run(command, check=True, env=one, stdout=subprocess.DEVNULL)

        results = [timed("cold", plan), timed("warm", plan), timed("one prediction, cold", predict)]
    print(tabulate(results, headers="keys"))
    if options.output is not None:
        data = {
            "processor": processor_name(),
            "versions": driver_versions().model_dump(),
            "gpu_predicted_for": profile.title,
            "budget_bytes": budget_bytes,
            "results": results,
        }
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "results.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
