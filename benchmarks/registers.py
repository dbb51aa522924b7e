"""What every kernel takes of a multiprocessor, on cards that need not be there: registers, spills, shared
memory.

    nice python -m phase8_tune.benchmarks.registers --output DIR [--architectures 86 …] [--models small …]
        [--batch 16 --n-seq 1024] [--kernels FOLDER …]

Every form of every kernel that a training launches, of each version at each preset, is compiled for each
architecture by Triton's own ptxas; no GPU is asked. What was compiled is kept in DIR, line by line: the same
command goes on where it stopped, and compiles again only what has changed. Then it writes results.json,
environment.json and report.md there, and prints the tables of the report, which kernels/README.md shows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import triton
from triton import knobs

from ..kernels.versions import KERNEL_VERSIONS
from ..phase8.config import PRESETS, preset
from ..phase8.training import TrainingOptions
from ..tuner.builtin.phase8.launches import training_launches
from ..tuner.builtin.phase8.tracing import trace_training
from ..tuner.compiling.dynamo import leave_dynamo_out
from ..tuner.compiling.specialization import Specialization
from ..tuner.compiling.target import aim_at
from ..tuner.predict.lines import limits_of
from ..tuner.predict.rate.profiles import gpu_profile
from ..tuner.predict.rate.throughput import estimate_step
from ..tuner.predict.trace.cost_classes import is_launch
from ..tuner.predict.trace.events import Cost
from .environment import environment
from .registers_report import SMALL_CARD, VERSION, report, to_rows

CARDS = {
    80: "a100",
    86: "rtx-3080-laptop",
    89: "rtx-4090",
    90: "h200",
    100: "b200",
    120: "rtx-5090",
}
"""A card of each architecture: kernels choose their blocks by its shared memory and its multiprocessors."""

_DEFINITION = "reference"  # it launches nothing of ours
SHAPE = (16, 1024)
"""Batch and tokens of a sequence, where none are said."""

_COSTLIEST = 5
_KEPT = "compiled.jsonl"


def compiled(form: Specialization, architecture: int) -> dict[str, Any]:
    """Registers and local memory (bytes) of a thread, warps and shared memory (bytes) of a block."""
    aim_at(architecture)
    kernel = attrgetter(form.kernel)(import_module(form.module)).preload(form.description)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        listing = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    ((registers, stack),) = re.findall(r"REG:(\d+) STACK:(\d+)", listing)
    return {
        "warps": kernel.metadata.num_warps,
        "registers": int(registers),
        "stack_bytes": int(stack),
        "shared_bytes": kernel.metadata.shared,
    }


def launched(
    version: str, model: str, architecture: int, shape: tuple[int, int] = SHAPE
) -> list[Specialization]:
    """The forms that a training of a preset launches on the card of an architecture, in bfloat16.

    shape: batch and tokens of a sequence.
    """
    batch, n_seq = shape
    return training_launches(
        preset(model, n_seq=n_seq),
        TrainingOptions(kernel_version=version),
        batch_size=batch,
        mode="train",
        limits=limits_of(gpu_profile(CARDS[architecture])),
        architecture=architecture,
    )


def key_of(form: Specialization, architecture: int) -> str:
    """A name for all that decides what is compiled: the sources of the kernel and of what it calls, too."""
    kernel = attrgetter(form.kernel)(import_module(form.module))
    parts = [triton.__version__, str(architecture), form.name, kernel.cache_key, form.description]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Kept:
    """What was compiled already, a line of a file for each form."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._found: dict[str, dict[str, Any]] = {line["key"]: line for line in map(json.loads, lines)}

    def __call__(self, form: Specialization, architecture: int) -> dict[str, Any]:
        """What a form takes: as it was written down, or compiled now and written down."""
        key = key_of(form, architecture)
        if key not in self._found:
            started = time.perf_counter()
            taken = compiled(form, architecture)
            line = {"key": key, "architecture": architecture, "kernel": form.name, **taken}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self._found[key] = line
            print(f"sm_{architecture} {form.name} in {time.perf_counter() - started:.1f} s", flush=True)
        return self._found[key]


def forms(
    versions: list[str],
    models: list[str],
    architectures: list[int],
    kept: Kept,
    shape: tuple[int, int],
    folders: list[str],
) -> Iterator[dict[str, Any]]:
    """What each form of each version and preset takes: those that matter most come first.

    folders: whose kernels alone, if there are any.
    """
    for architecture in architectures:
        for version in versions:
            for model in models:
                for form in launched(version, model, architecture, shape):
                    if folders and form.name.partition(".")[0] not in folders:
                        continue
                    yield {"version": version, "model": model, **kept(form, architecture)}


def costliest(model: str, shape: tuple[int, int] = SHAPE) -> dict[str, float]:
    """The kernels of `fast` that a step on the small card is predicted to spend most on, with its share."""
    card, (batch, n_seq) = gpu_profile(CARDS[SMALL_CARD]), shape
    options = TrainingOptions(kernel_version=VERSION, mixed_precision="bf16")
    trace = trace_training(
        preset(model, n_seq=n_seq), options, batch_size=batch, limits=limits_of(card), mode="train"
    )
    costs: dict[str, Cost] = {}
    for (name, _), cost in trace.costs.items():
        costs.setdefault(name, Cost()).add(cost.flops, cost.moved_bytes, cost.launches)

    def seconds(of: dict[str, Cost]) -> float:
        return estimate_step(of, card, precision="bf16", n_seq=n_seq, is_captured=True).gpu_s

    kernels: dict[str, float] = {}
    for name, cost in costs.items():
        if is_launch(name):
            kernel = name.partition(":")[2].removesuffix(" epilogue")
            kernels[kernel] = kernels.get(kernel, 0.0) + seconds({name: cost}) / seconds(costs)
    return dict(sorted(kernels.items(), key=lambda item: -item[1])[:_COSTLIEST])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    versions = [version for version in KERNEL_VERSIONS[::-1] if version != _DEFINITION]
    parser.add_argument("--versions", nargs="*", default=versions)
    parser.add_argument("--models", nargs="*", default=list(PRESETS))
    parser.add_argument("--architectures", nargs="*", type=int, default=[86, 90, 80, 89, 120, 100])
    parser.add_argument("--batch", type=int, default=SHAPE[0])
    parser.add_argument("--n-seq", type=int, default=SHAPE[1])
    parser.add_argument("--kernels", nargs="*", default=[], help="folders of kernels: of these alone")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    leave_dynamo_out()
    kept = Kept(arguments.output / _KEPT)
    shape = arguments.batch, arguments.n_seq
    found = forms(
        arguments.versions, arguments.models, arguments.architectures, kept, shape, arguments.kernels
    )
    results: dict[str, Any] = {
        "n_seq": arguments.n_seq,
        "batch": arguments.batch,
        "cards": {str(architecture): CARDS[architecture] for architecture in arguments.architectures},
        "costliest": {}
        if arguments.kernels
        else {model: costliest(model, shape) for model in arguments.models},
        "kernels": to_rows(found),
    }
    for name, content in (("results.json", results), ("environment.json", environment())):
        (arguments.output / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    text = report(results)
    (arguments.output / "report.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        raise SystemExit("registers: expected Triton's compiler, got its interpreter; unset TRITON_INTERPRET")
    main()
