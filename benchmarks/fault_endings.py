"""What else ends or hinders `phase8-tune`: signals that ask to end, a disk that is full, output that is lost.

After each fault the files of what was found so far are there and whole, and no process or draft is left.
"""

from __future__ import annotations

import random
import signal
from contextlib import ExitStack
from pathlib import Path

from ..tuner.records.journal import read_records
from .fault_cases import Bench
from .fault_disks import fill, make_room, small_disk
from .fault_driver import main as drive
from .fault_drivers import TRIAL_S, End, driven
from .fault_forks import Child, Stream, fork, prepare_forks
from .fault_harness import Tally
from .fault_processes import leftovers

_DISK_BYTES = 24 << 20  # a run with its page, twice while that is replaced
_ROOM_BYTES = 320 << 10  # more than a whole study takes


def ended_driver_case(bench: Bench, times: int, number: signal.Signals, rows: int = 40) -> Tally:
    """A signal that asks to end at random moments, and the same command again."""
    chance = random.Random(f"{bench.seed} {number.name}")

    def judge(folder: Path, end: End) -> list[str]:
        if end.code == -number and not end.errors:  # before its first line, or after its last
            return unfinished_files(folder)
        wrong = [] if end.code == 128 + number else [f"exit code {end.code} after {number.name}"]
        wrong += [] if "kept" in _last_line(end) and "Traceback" not in end.errors else [_said(end)]
        return wrong + unfinished_files(folder)

    return driven(
        bench,
        f"{number.name} at random moments, and resumed",
        f"ended-{number.name}",
        times,
        rows,
        lambda folder: _signalled(folder, rows, number, chance.uniform(0.0, 4.0)),
        judge,
        _run,
    )


def small_disk_case(bench: Bench, times: int, rows: int = 20) -> Tally:
    """A disk of its own for the run, full but for random bytes, then with room; without the right to mount
    one, no file may grow beyond random bytes."""
    chance = random.Random(f"{bench.seed} small disk")
    with ExitStack() as disks:

        def attack(folder: Path) -> End:
            root, room_bytes = folder / "run", chance.randrange(_ROOM_BYTES)
            if not root.is_mount() and not disks.enter_context(small_disk(root, _DISK_BYTES)):
                return _run(folder, rows, "--file-limit", str(room_bytes))
            fill(root, room_bytes)
            end = _run(folder, rows)
            make_room(root)
            return end

        def judge(folder: Path, end: End) -> list[str]:
            wrong = [] if end.code == 2 else [f"exit code {end.code} on a full disk"]
            is_said = "Traceback" not in end.errors and len(_errors(end)) == 1
            return wrong + ([] if is_said else [_said(end)]) + _strays(folder)

        return driven(
            bench,
            "disk of the run full at random bytes, then room",
            "small-disk",
            times,
            rows,
            attack,
            judge,
            _run,
        )


def lost_output_case(bench: Bench, times: int, rows: int = 3) -> Tally:
    """Standard output, standard error or both lead nowhere: full, closed, or a reader that goes away."""
    chance = random.Random(f"{bench.seed} output")
    kinds = [(out, err) for out in Stream for err in Stream][1:]

    def attack(folder: Path) -> End:
        stdout, stderr = chance.choice(kinds)
        child = _start(folder, rows, stdout=stdout, stderr=stderr)
        child.ends_within(chance.choice((0.0, chance.uniform(0.0, 2.0))))
        child.abandon()
        return _end(child, is_hit=True, is_always=True)

    def judge(folder: Path, end: End) -> list[str]:
        wrong = [] if end.code in (0, 2) and "Traceback" not in end.errors else [_said(end)]
        done = len(read_records(folder / "run" / "records.jsonl"))
        wrong += [] if done == rows else [f"{done} of {rows} rows measured, exit code {end.code}"]
        return wrong + unfinished_files(folder)

    return driven(bench, "output streams lost", "output", times, rows, attack, judge, _run)


def unfinished_files(folder: Path) -> list[str]:
    """What is missing or too much beside a journal, after a driver that ended by itself."""
    root = folder / "run"
    records = read_records(root / "records.jsonl")
    wrong = _strays(folder)
    if records:
        table = root / "trials.csv"
        rows = len(table.read_text(encoding="utf-8").splitlines()) - 1 if table.exists() else 0
        wrong += [] if rows == len(records) else [f"trials.csv: {rows} rows of {len(records)} records"]
        wrong += [] if (root / "report.md").exists() else ["report.md: missing"]
        wrong += [] if list((root / "recommended").glob("*.yaml")) else ["recommended: missing"]
    return wrong


def _strays(folder: Path) -> list[str]:
    found = [f"{path.relative_to(folder)}: left behind" for path in folder.rglob("*.tmp")]
    return found + [f"process {pid}: left behind" for pid in leftovers()]


def _errors(end: End) -> list[str]:
    """What a driver says of its end: no line about the study or one of its rows."""
    return [
        line
        for line in end.errors.splitlines()
        if not line.startswith(("[", "phase8-tune: study faults, budget"))
    ]


def _last_line(end: End) -> str:
    return (end.errors.splitlines() or [""])[-1]


def _said(end: End) -> str:
    return f"exit code {end.code}, said: {end.errors[-300:]!r}"


def _start(
    folder: Path, rows: int, *options: str, stdout: Stream = Stream.READ, stderr: Stream = Stream.READ
) -> Child:
    prepare_forks()
    arguments = [str(folder), str(rows), f"slow:{TRIAL_S}", "--silent", *options]
    child = fork(drive, arguments, folder, stdout=stdout, stderr=stderr)
    child.wait_began()
    return child


def _run(folder: Path, rows: int, *options: str) -> End:
    return _end(_start(folder, rows, *options), is_hit=True)


def _signalled(folder: Path, rows: int, number: signal.Signals, moment_s: float) -> End:
    child = _start(folder, rows)
    is_hit = not child.ends_within(moment_s)
    if is_hit:
        child.send(number)
    return _end(child, is_hit=is_hit)


def _end(child: Child, *, is_hit: bool, is_always: bool = False) -> End:
    ended = child.ended()
    return End(code=ended.code, errors=ended.errors, is_hit=is_hit, is_always=is_always)
