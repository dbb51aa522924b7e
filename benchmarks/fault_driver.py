"""A driver that is to be killed: `phase8-tune` as a user starts it, over a fake worker.

    python -m phase8_tune.benchmarks.fault_driver FOLDER ROWS HOW [OPTIONS]

The study of so many rows, each of which does HOW, runs in FOLDER/run; FOLDER/noted holds what was measured.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

from ..tuner.cli import main as tune
from ..tuner.measuring.worker_measurer import WorkerMeasurer
from ..tuner.places import here
from ..tuner.search import search as search_module
from .fault_harness import FAKES, FaultyMeasurer, study_text

_STEPS_S = (-3600.0, -1.0, 0.0, 1.0, 3600.0, 10 * 365 * 86400.0)


class SteppingDatetime(datetime):
    """A clock that somebody sets forwards and back between any two looks at it."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        found = datetime.now(tz) + timedelta(seconds=random.choice(_STEPS_S))
        return cls.fromtimestamp(found.timestamp(), tz)


def step_clock() -> None:
    """The system's clock steps, for all that asks Python for it; the monotonic clock does not."""
    real: Callable[[], float] = time.time
    time.time = lambda: real() + random.choice(_STEPS_S)
    search_module.datetime = SteppingDatetime  # type: ignore[attr-defined]


def fill_disk(room_bytes: int) -> None:
    """The journal's disk has so much room: what goes beyond is written as far as it fits, then refused."""
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        fitting = data[: max(0, room_bytes - offset)]
        if data and not fitting:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, fitting, offset)

    os.pwrite = pwrite  # type: ignore[assignment]


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("how")
    parser.add_argument("--file-limit", type=int)
    parser.add_argument("--room", type=int, help="for records; then the disk is full")
    parser.add_argument("--step-clock", action="store_true")
    parser.add_argument("--silent", action="store_true", help="where nobody waits for the word that it began")
    arguments = parser.parse_args(given)
    folder, plan = arguments.folder, [[arguments.how]] * arguments.rows

    def make(**settings: Any) -> FaultyMeasurer:
        inner = WorkerMeasurer(command=(sys.executable, str(FAKES / "worker.py")), **settings)
        return FaultyMeasurer(inner=inner, plan=plan, noted=folder / "noted")

    here.WorkerMeasurer = make  # type: ignore[assignment, attr-defined]
    if arguments.step_clock:
        step_clock()
    study = folder / "faults.yaml"
    if not study.exists():
        study.write_text(study_text(arguments.rows), encoding="utf-8")
    if arguments.file_limit is not None:  # a write beyond it fails, as on a full disk
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.file_limit, hard))
    if arguments.room is not None:
        fill_disk(arguments.room)
    if not arguments.silent:
        print("started", flush=True)
    tune(
        ["--vram", "1GB", "--device", "cpu", "--study", str(study), "--runs-dir", str(folder), "--run", "run"]
    )


if __name__ == "__main__":
    main()
