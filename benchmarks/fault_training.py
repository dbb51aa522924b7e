"""Trainings with faults in them, and the account afterwards.

A record here is the loss of a step. Whatever came between, the losses and the weights at the end are, to the
bit, those of a training that nothing came between.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..tuner.commands.train import main as train
from ..tuner.training.checkpoint import read_checkpoint
from ..tuner.training.places import resume_path
from ..tuner.training.settings import load_settings
from ..tuner.values.errors import UserInputError
from .fault_cases import Bench
from .fault_disks import BALLAST
from .fault_forks import Child, Ended, Stream, fork, prepare_forks
from .fault_harness import Tally

WORKER = "phase8-train, cpu"
_SETTINGS = """\
{d_model: 32, n_layers: 1, n_seq: 16, batch_size: 2, n_heads: 2, htt_rank: 4, vocab_size: 256}
"""
_KEPT = ("tiny.safetensors", "tiny.resume.safetensors", "tiny.best.safetensors")
_GIVEN = {"tiny.yaml", "text.txt", "cache", BALLAST}
_MADE = {*_KEPT, "tiny.metrics.jsonl", "tiny.svg"}
_SAVE_EVERY = 5
_MAX_RUNS = 400  # of one case: each gets on, or something is wrong


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What an undisturbed training leaves. losses: of each step; files: digests by name; seconds: it took."""

    losses: dict[int, float]
    files: dict[str, str]
    seconds: float


@dataclass(kw_only=True, slots=True)
class Attacked:
    """How an attacked run ended. is_hit: the fault reached it before its end."""

    ended: Ended
    is_hit: bool


@dataclass(slots=True)
class _Count:
    """What is added up over the trainings of a case."""

    hits: int = 0
    steps: int = 0
    lost: int = 0
    doubled: int = 0
    left: int = 0
    unfinished: int = 0
    again: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def start(folder: Path, steps: int, *, stdout: Stream = Stream.READ, stderr: Stream = Stream.READ) -> Child:
    """The training of the folder, begun or gone on with."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tiny.yaml").exists():
        (folder / "tiny.yaml").write_text(_SETTINGS, encoding="utf-8")
        text = "".join(random.Random(0).choices("abcdefgh ", k=4000))
        (folder / "text.txt").write_text(text, encoding="utf-8")
    arguments = ["tiny.yaml", "--data", "text.txt", "--device", "cpu", "--steps", str(steps)]
    arguments += ["--save-every", str(_SAVE_EVERY), "--log-every", "1", "--evaluate-every", "10"]
    child = fork(train, arguments, folder, stdout=stdout, stderr=stderr)
    child.wait_began()
    return child


def undisturbed(folder: Path, steps: int) -> Course:
    """The training to compare with.

    Raises: RuntimeError where it fails by itself.
    """
    prepare_forks()
    began_s = time.monotonic()
    ended = start(folder, steps).ended()
    if ended.code:
        raise RuntimeError(f"exit code {ended.code} without a fault: {ended.errors[-500:]}")
    seconds = time.monotonic() - began_s
    return Course(losses=dict(logged(folder)), files=digests(folder), seconds=seconds)


def logged(folder: Path) -> list[tuple[int, float]]:
    """(step, loss) of every line of the metrics that has one; a torn last line is none."""
    path = folder / "tiny.metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.loads(line) for line in text.split("\n")[:-1]]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def digests(folder: Path) -> dict[str, str]:
    paths = [folder / name for name in _KEPT]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.exists()}


def saved_step(folder: Path) -> int:
    """The step of the checkpoint; 0 where there is none yet.

    Raises: UserInputError where it cannot be read.
    """
    path = resume_path(folder / "tiny.safetensors")
    if not path.exists():
        return 0
    return read_checkpoint(path, load_settings(folder / "tiny.yaml")).progress.step


def strays(folder: Path) -> list[str]:
    """Files that a training that has ended leaves to nobody's use: drafts, locks, halves."""
    found = [path for path in folder.iterdir() if path.name not in _GIVEN | _MADE]
    drafts = (folder / "cache").rglob(".*") if (folder / "cache").exists() else []
    return sorted(path.relative_to(folder).as_posix() for path in [*found, *drafts])


def compare(folder: Path, course: Course) -> tuple[int, int, list[str]]:
    """(losses missing or other, losses more than once, what else differs) of a finished training."""
    lines = logged(folder)
    found = dict(lines)
    lost = sum(found.get(step) != loss for step, loss in course.losses.items())
    files = digests(folder)
    wrong = [f"{name}: other bits" for name, digest in course.files.items() if files.get(name) != digest]
    # A draft of tokens that was killed stays in the cache for a day, then the next training removes it.
    wrong += [f"{name}: left behind" for name in strays(folder) if not name.startswith("cache/")]
    return lost, len(lines) - len(found), wrong


Attack = Callable[[Path, random.Random, Course], Attacked]
Judge = Callable[[Path, Ended], list[str]]


def attacked(
    bench: Bench,
    case: str,
    name: str,
    times: int,
    steps: int,
    attack: Attack,
    judge: Judge,
    attacks_each: int = _MAX_RUNS,
) -> Tally:
    """Attack runs, each of which goes on with its predecessor's training, until so many faults were injected;
    then each training is finished undisturbed and compared. attacks_each: of one training, at most."""
    began_s = time.monotonic()
    course = undisturbed(bench.folder / f"train-{name}-undisturbed", steps)
    chance = random.Random(f"{bench.seed} {name}")
    count, runs, trainings = _Count(), 0, 0
    while count.hits < times:
        folder = bench.folder / f"train-{name}-{trainings}"
        trainings += 1
        before, is_done, attacks = 0, False, 0
        while not is_done:
            runs += 1
            if runs > _MAX_RUNS:
                raise RuntimeError(f"{case}: {runs} runs and not done; see {folder}")
            if count.hits < times and attacks < attacks_each:
                found, attacks = attack(folder, chance, course), attacks + 1
            else:
                found = Attacked(ended=start(folder, steps).ended(), is_hit=False)
            is_done = found.ended.code == 0 and not found.is_hit
            before = _note(count, folder, found, before, judge)
            if not is_done and not found.is_hit:
                raise RuntimeError(
                    f"{case}: exit code {found.ended.code} without a fault: {found.ended.errors[-500:]}"
                )
        lost, doubled, wrong = compare(folder, course)
        count.steps += len(dict(logged(folder)))
        count.lost += lost
        count.doubled += doubled
        count.unfinished += steps - saved_step(folder)
        count.wrong += wrong
    return Tally(
        case=case,
        worker=WORKER,
        injected=count.hits,
        outcomes=dict(count.endings),
        records=count.steps,
        lost=count.lost,
        doubled=count.doubled,
        left_behind=count.left,
        unfinished=count.unfinished,
        in_flight=count.again,
        unexpected=tuple(count.wrong),
        seconds=time.monotonic() - began_s,
    )


def _note(count: _Count, folder: Path, found: Attacked, before: int, judge: Judge) -> int:
    """Take note of what a run left; the step of its checkpoint, which never falls below the one before."""
    ended = found.ended
    count.left += ended.is_group_left
    try:
        step = saved_step(folder)
    except UserInputError as error:
        count.wrong.append(f"checkpoint: {error}")
        return before
    if step < before:
        count.wrong.append(f"checkpoint: step {step} after {before}")
    if found.is_hit:
        count.hits += 1
        count.endings[f"exit {ended.code}"] += 1
        count.again += max(0, max(dict(logged(folder)), default=0) - step)
        count.wrong += judge(folder, ended)
    return step
