"""The faults that end a driver or trouble it: SIGKILL, Ctrl-C, a full disk, a clock that steps."""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..tuner.records.journal import read_records
from .fault_cases import FAKE, Bench
from .fault_harness import Tally, account, notes

_MODULE = "phase8_tune.benchmarks.fault_driver"
TRIAL_S = 0.04
_MAX_RUNS = 500  # of one study: it gets on with every run, or something is wrong


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How a driver ended. is_hit: the fault reached it before its study was done; is_always: it counts as one
    where the study was done all the same."""

    code: int
    errors: str
    is_hit: bool
    is_always: bool = False


def start(folder: Path, rows: int, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", _MODULE, str(folder), str(rows), f"slow:{TRIAL_S}", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def run(folder: Path, rows: int, *options: str) -> End:
    with start(folder, rows, *options) as driver:
        _, errors = driver.communicate()
    return End(code=driver.returncode, errors=errors, is_hit=True)


def signalled(folder: Path, rows: int, number: signal.Signals, moments_s: list[float]) -> End:
    """A driver that gets a signal so long after it began, and after each one before."""
    with start(folder, rows) as driver:
        assert driver.stdout is not None  # asked for just above
        driver.stdout.readline()  # "started"
        is_hit = False
        ended = os.pidfd_open(driver.pid)
        try:
            for moment_s in moments_s:
                if select.select([ended], [], [], moment_s)[0]:
                    break
                driver.send_signal(number)
                is_hit = True
        finally:
            os.close(ended)
        _, errors = driver.communicate()
    return End(code=driver.returncode, errors=errors, is_hit=is_hit)


def killed_driver_case(bench: Bench, kills: int, rows: int = 40) -> Tally:
    """A driver killed with SIGKILL at random moments, and started again each time, study after study."""
    chance = random.Random(bench.seed)
    return driven(
        bench,
        "driver killed at random moments, and resumed",
        "driver-kill",
        kills,
        rows,
        lambda folder: signalled(folder, rows, signal.SIGKILL, [chance.uniform(0.0, 3.0)]),
        lambda folder, end: [] if end.code == -signal.SIGKILL else [f"exit code {end.code} after SIGKILL"],
    )


def interrupted_driver_case(bench: Bench, times: int, *, is_twice: bool, rows: int = 40) -> Tally:
    """Ctrl-C once, or twice within a moment, at random moments, and the same command again."""
    chance = random.Random(bench.seed + 1 + is_twice)

    def interrupt(folder: Path) -> End:
        moments_s = [chance.uniform(0.8, 3.0), *([chance.uniform(0.0, 0.05)] if is_twice else [])]
        return signalled(folder, rows, signal.SIGINT, moments_s)

    return driven(
        bench,
        f"SIGINT {'twice' if is_twice else 'once'}, and resumed",
        f"interrupt-{1 + is_twice}",
        times,
        rows,
        interrupt,
        lambda folder, end: (
            []
            if end.code in (130, -signal.SIGINT)
            else [f"exit code {end.code} after SIGINT: {end.errors[-200:]}"]
        ),
    )


def full_disk_case(bench: Bench, times: int, rows: int = 20) -> Tally:
    """A disk full at a random place of the journal, or any file refused beyond a random size; then room."""
    chance = random.Random(bench.seed + 3)
    limits = iter(
        ("--file-limit", str(chance.randrange(1_000, 160_000)))
        if index % 2
        else ("--room", str(chance.randrange(20_000)))
        for index in itertools.count()
    )

    def fill(folder: Path) -> End:
        return run(folder, rows, *next(limits))

    def judge(folder: Path, end: End) -> list[str]:
        lines = [line for line in end.errors.splitlines() if not line.startswith("[")]
        if end.code == 2 and "Traceback" not in end.errors and "expected" in lines[-1]:
            return []
        return [f"exit code {end.code} on a full disk: {lines[-1] if lines else 'nothing said'}"]

    return driven(bench, "disk full, and resumed with room", "disk", times, rows, fill, judge)


def stepping_clock_case(bench: Bench, rows: int = 20) -> Tally:
    """The system's clock steps by a second, an hour and ten years, forwards and back, at every look at it."""
    started_s = time.monotonic()
    folder = bench.folder / "clock"
    folder.mkdir(parents=True)
    end = run(folder, rows, "--step-clock")
    records = read_records(folder / "run" / "records.jsonl")
    unexpected = [] if end.code == 0 else [f"exit code {end.code}: {end.errors[-200:]}"]
    unexpected += [f"{r.digest}: {r.measurement.outcome}" for r in records if not r.fits]
    unexpected += [
        f"{r.digest}: {r.measurement.wall_s} s" for r in records if not 0 < r.measurement.wall_s < 60
    ]
    stamps = [record.started_at for record in records]
    if stamps == sorted(stamps):
        unexpected.append("the clock did not step")
    return account(
        "clock stepping between any two looks",
        folder / "run",
        notes(folder / "noted"),
        rows=rows,
        worker=FAKE,
        injected=len(records),
        unexpected=unexpected,
        started_s=started_s,
    )


def driven(
    bench: Bench,
    case: str,
    name: str,
    times: int,
    rows: int,
    attack: Callable[[Path], End],
    judge: Callable[[Path, End], list[str]],
    finish: Callable[[Path, int], End] = run,
) -> Tally:
    """Attack so many drivers, each one resuming its predecessor's study; then account for all studies.

    finish: a driver that nobody attacks.
    """
    unexpected: list[str] = []
    tallies: list[Tally] = []
    hits = runs = 0
    while hits < times:
        started_s = time.monotonic()
        folder = bench.folder / f"{name}-{len(tallies)}"
        folder.mkdir(parents=True)
        journal = folder / "run" / "records.jsonl"
        lost = 0
        before: list[str] = []
        is_done = False
        while not is_done:
            runs += 1
            if runs > _MAX_RUNS:
                raise RuntimeError(f"{case}: {runs} runs and not done; see {folder}")
            end = attack(folder) if hits < times else finish(folder, rows)
            now = _whole_lines(journal)
            lost += sum(mine != theirs for mine, theirs in zip(before, now, strict=False))
            lost += max(0, len(before) - len(now))
            before = now
            is_done = end.code == 0
            if hits < times and end.is_hit and (end.is_always or not is_done):
                hits += 1
                unexpected += judge(folder, end)
            elif not is_done:
                raise RuntimeError(f"{case}: exit code {end.code} without a fault: {end.errors[-500:]}")
        tallies.append(
            account(
                case,
                folder / "run",
                notes(folder / "noted"),
                rows=rows,
                worker=FAKE,
                injected=0,
                lost=lost,
                started_s=started_s,
            )
        )
    return add_up(tallies, injected=hits, unexpected=unexpected)


def _whole_lines(journal: Path) -> list[str]:
    """The records that are on the disk: a last line without its end was never acknowledged."""
    return journal.read_text(encoding="utf-8").split("\n")[:-1] if journal.exists() else []


def add_up(tallies: list[Tally], *, injected: int, unexpected: list[str]) -> Tally:
    """One line for several studies of a case."""
    outcomes: dict[str, int] = {}
    for tally in tallies:
        for outcome, count in tally.outcomes.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    return Tally(
        case=tallies[0].case,
        worker=tallies[0].worker,
        injected=injected,
        outcomes=outcomes,
        records=sum(t.records for t in tallies),
        lost=sum(t.lost for t in tallies),
        doubled=sum(t.doubled for t in tallies),
        left_behind=sum(t.left_behind for t in tallies),
        unfinished=sum(t.unfinished for t in tallies),
        in_flight=sum(t.in_flight for t in tallies),
        unexpected=(*(said for t in tallies for said in t.unexpected), *unexpected),
        seconds=sum(t.seconds for t in tallies),
    )
