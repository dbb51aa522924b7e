"""Faults of `phase8-train`: it is killed, asked to end, its disk fills up, its output goes nowhere."""

from __future__ import annotations

import random
import signal
from contextlib import ExitStack
from pathlib import Path

from .fault_cases import Bench
from .fault_disks import fill, limit_files, make_room, small_disk
from .fault_forks import Ended, Stream
from .fault_harness import Tally
from .fault_training import Attacked, Course, attacked, logged, saved_step, start, strays

_DISK_BYTES = 4 << 20
_ROOM_BYTES = 240 << 10  # more than a checkpoint


def kill_training_case(bench: Bench, times: int, steps: int) -> Tally:
    """SIGKILL at random moments, and the same command again, training after training."""
    return attacked(bench, "SIGKILL at random moments, and resumed", "killed", times, steps, _kill, _killed)


def end_training_case(bench: Bench, times: int, steps: int, number: signal.Signals) -> Tally:
    """A signal that asks to end at random moments, and the same command again."""
    return attacked(
        bench,
        f"{number.name} at random moments, and resumed",
        f"ended-{number.name}",
        times,
        steps,
        lambda folder, chance, course: _signalled(folder, chance, course, number),
        lambda folder, ended: _ended_by(folder, ended, number, steps),
    )


def full_training_case(bench: Bench, times: int, steps: int) -> Tally:
    """A disk that is full from a random moment on but for random bytes, then room."""
    with ExitStack() as disks:

        def attack(folder: Path, chance: random.Random, course: Course) -> Attacked:
            if not folder.is_mount():
                disks.enter_context(small_disk(folder, _DISK_BYTES))
            return _filled(folder, chance, course)

        return attacked(
            bench, "disk full at random bytes, and resumed with room", "full", times, steps, attack, _full
        )


def lost_output_training_case(bench: Bench, times: int, steps: int) -> Tally:
    """Standard output, standard error or both lead nowhere: full, closed, or a reader that goes away."""
    return attacked(
        bench,
        "output streams lost",
        "output",
        times,
        steps,
        _unheard,
        lambda folder, ended: _lost_output(folder, ended, steps),
        attacks_each=1,
    )


def _kill(folder: Path, chance: random.Random, course: Course) -> Attacked:
    return _signalled(folder, chance, course, signal.SIGKILL)


def _signalled(folder: Path, chance: random.Random, course: Course, number: signal.Signals) -> Attacked:
    child = start(folder, len(course.losses))
    is_hit = not child.ends_within(chance.uniform(0.0, course.seconds))
    if is_hit:
        child.send(number)
    return Attacked(ended=child.ended(), is_hit=is_hit)


def _filled(folder: Path, chance: random.Random, course: Course) -> Attacked:
    """Until the end of the run; where it ended well, or nothing was refused, the disk was not full for it."""
    child = start(folder, len(course.losses))
    if not child.ends_within(chance.choice((0.0, chance.uniform(0.0, course.seconds)))):
        if folder.is_mount() and chance.random() < 0.5:
            fill(folder, chance.randrange(_ROOM_BYTES))
        else:
            limit_files(child.pid, chance.randrange(_ROOM_BYTES))
    ended = child.ended()
    make_room(folder)
    return Attacked(ended=ended, is_hit=ended.code != 0)


def _unheard(folder: Path, chance: random.Random, course: Course) -> Attacked:
    lost = [Stream.FULL, Stream.CLOSED, Stream.ABANDONED]
    stdout, stderr = chance.choice([(a, b) for a in (Stream.READ, *lost) for b in (Stream.READ, *lost)][1:])
    child = start(folder, len(course.losses), stdout=stdout, stderr=stderr)
    child.ends_within(chance.choice((0.0, chance.uniform(0.0, course.seconds))))
    child.abandon()
    return Attacked(ended=child.ended(), is_hit=True)


def _killed(folder: Path, ended: Ended) -> list[str]:
    return [] if ended.code == -signal.SIGKILL else [f"exit code {ended.code} after SIGKILL"]


def _ended_by(folder: Path, ended: Ended, number: signal.Signals, steps: int) -> list[str]:
    """The right code, one line, and the checkpoint of the very step that was done last.

    Before the command's first line and after its last one the signal does what it does to any process.
    """
    wrong = [f"{name}: left behind after {number.name}" for name in strays(folder)]
    if ended.code == -number:
        is_outside = not ended.output or "weights" in ended.output.splitlines()[-1]
        return wrong if is_outside else [*wrong, f"ended at once by {number.name}: {ended.output[-200:]}"]
    done, saved = max(dict(logged(folder)), default=0), saved_step(folder)
    if ended.code == 0 and done == saved == steps:
        return wrong  # the signal came when all was done and saved
    if ended.code != 128 + number:
        return [*wrong, f"exit code {ended.code} after {number.name}: {ended.errors[-300:]}"]
    wrong += _one_line(ended)
    if done != saved:
        wrong.append(f"step {done} was done, step {saved} is saved: {ended.errors.strip()}")
    return wrong


def _full(folder: Path, ended: Ended) -> list[str]:
    wrong = [f"{name}: left behind on a full disk" for name in strays(folder)]
    if ended.code != 2:
        wrong.append(f"exit code {ended.code} on a full disk: {ended.errors[-300:]}")
    return [*wrong, *_one_line(ended)]


def _lost_output(folder: Path, ended: Ended, steps: int) -> list[str]:
    wrong = [f"{name}: left behind" for name in strays(folder)]
    if ended.code not in (0, 2):
        wrong.append(f"exit code {ended.code} without output: {ended.errors[-300:]}")
    done, saved = max(dict(logged(folder)), default=0), saved_step(folder)
    if done != steps or saved != steps:
        wrong.append(f"output lost: step {done} was done, step {saved} is saved, exit code {ended.code}")
    return wrong + (["Traceback"] if "Traceback" in ended.errors else [])


def _one_line(ended: Ended) -> list[str]:
    lines = ended.errors.splitlines()
    return (
        []
        if len(lines) == 1 and "Traceback" not in ended.errors
        else [f"not one line: {ended.errors[-300:]}"]
    )
