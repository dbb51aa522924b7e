"""Answers about lines: asked of a pool of processes, kept in the user's cache folder.

A line has two files: what was traced of it (`fit/line_files.py`), and the answers about it by question. Their
name depends on the line and the version of the code: the sources that are traced and those that trace, and
torch's own version.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..machine.cache_folder import warn_not_kept, writable_cache_folder
from ..values.atomic_write import write_atomically
from ..values.errors import DeviceError, UserInputError
from ..values.interrupt import interrupt_deferred
from .jobs import LineJob, answer, prepare_process
from .lines import Answer, LineKey, Question, answer_for, traced_key

MODEL_ROOMS = (
    "kernels",
    *(f"phase8/{n}.py" for n in ("capture", "config", "embedding", "mixers", "model", "training")),
)
"""Sources that a training step runs, folders and files: decoding is none of them."""
_TRACING_ROOMS = ("tuner/predict",)
_NAME = "predictions"
_FORMAT = 1
"""Of a file of answers: one of another format counts as not there."""


@functools.cache
def code_version() -> str:
    """A digest of the sources that a trace depends on, and torch's version."""
    text = version("torch") + sources_digest((*MODEL_ROOMS, *_TRACING_ROOMS))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def sources_digest(rooms: tuple[str, ...]) -> str:
    """A digest of all Python sources in some of the package's folders, and of single files."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for room in rooms:
        place = root / room
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


class PredictionStore:
    """Answers questions, from the folder where it can. Use as a context: it ends its processes.

    processes: how many trace at once; None: one a core.
    """

    def __init__(self, folder: Path | None = None, processes: int | None = None) -> None:
        self._folder = writable_cache_folder(_NAME) if folder is None else folder / _NAME
        self._processes = processes or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None
        self._is_warned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        with interrupt_deferred():
            if error is not None:  # nobody waits for an answer any more, and a line takes half a minute
                for process in multiprocessing.active_children():
                    process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def ask(
        self,
        questions: Sequence[tuple[LineKey, Question]],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Answer]:
        """The answers, in order. on_progress: told (lines done, lines to do) of those not known already.

        Raises: UserInputError where a version does not take a model;
        DeviceError where a process that traces was ended from outside; UserInputError where none can be
        started here.
        """
        try:
            return self._ask(questions, on_progress)
        except BrokenProcessPool as error:
            raise DeviceError(
                "a process that predicts was ended from outside, for want of memory perhaps; close other "
                "programs and run the same command again: what was predicted is kept"
            ) from error

    def _ask(
        self, questions: Sequence[tuple[LineKey, Question]], on_progress: Callable[[int, int], None]
    ) -> list[Answer]:
        by_line: dict[LineKey, list[Question]] = {}
        for key, question in questions:
            by_line.setdefault(traced_key(key), []).append(question)
        known = {key: self._read(key) for key in by_line}
        jobs = []
        for key, asked in by_line.items():
            missing = tuple(q for q in dict.fromkeys(asked) if q.name() not in known[key])
            if missing:
                jobs.append(LineJob(key=key, questions=missing, path=self._path(key, "line")))
        # In no order of size, so that the share done says how much time is left.
        jobs.sort(key=lambda job: job.path.name)
        waiting = {self._submit(job): job for job in jobs}
        if waiting:
            on_progress(0, len(waiting))
        for done, future in enumerate(as_completed(waiting), start=1):
            job = waiting[future]
            known[job.key] |= {q.name(): a for q, a in zip(job.questions, future.result(), strict=True)}
            self._keep(job.key, known[job.key])
            on_progress(done, len(waiting))
        return [answer_for(key, known[traced_key(key)][question.name()]) for key, question in questions]

    def _keep(self, key: LineKey, answers: dict[str, Answer]) -> None:
        """Write answers down; a disk that is full costs the next run time, and this one nothing."""
        try:
            self._write(key, answers)
        except OSError as error:
            if not self._is_warned:
                warn_not_kept(self._folder, error)
            self._is_warned = True

    def _submit(self, job: LineJob) -> Future[list[Answer]]:
        try:
            return self._processes_ready().submit(answer, job)
        except OSError as error:  # their semaphores are files in /dev/shm
            raise UserInputError(
                f"the processes that predict cannot be started ({error.strerror}): expected /dev/shm to be a "
                "file system in memory that this user may write; mount one there, with `chmod 1777 /dev/shm`"
            ) from error

    def _processes_ready(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._processes, multiprocessing.get_context("spawn"), initializer=prepare_process
            )
        return self._pool

    def _path(self, key: LineKey, suffix: str) -> Path:
        return self._folder / f"{key.digest(code_version())}.{suffix}"

    def _read(self, key: LineKey) -> dict[str, Answer]:
        try:
            data = json.loads(self._path(key, "json").read_bytes())
            if data["format"] != _FORMAT:
                return {}
            return {name: _answer(fields) for name, fields in data["answers"].items()}
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return {}  # none yet, or a damaged file: asked again

    def _write(self, key: LineKey, answers: dict[str, Answer]) -> None:
        values = {
            name: {field.name: getattr(item, field.name) for field in fields(Answer)}
            for name, item in answers.items()
        }
        text = json.dumps({"format": _FORMAT, "answers": values})
        write_atomically(self._path(key, "json"), text.encode())


def _answer(fields: dict[str, Any]) -> Answer:
    costs = {name: tuple(values) for name, values in fields["costs"].items()}
    return Answer(**{**fields, "costs": costs})
