"""Answers about lines: asked of a pool of processes, kept in the user's cache folder.

What is kept depends on the line, the question, and the version of the code: the sources that are traced and
those that trace, and torch's own version.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .events import Workspaces
from .jobs import LineJob, answer, largest_batch, prepare_process
from .line_files import write_atomically
from .lines import Answer, LineKey, Question

MODEL_ROOMS = ("kernels", "phase8")
"""Sources that a training step runs."""
_TRACING_ROOMS = ("tuner/predict",)


def cache_folder() -> Path:
    """Where predictions and calibrations are kept: PHASE8_TUNE_CACHE, or phase8-tune in the user's cache."""
    named = os.environ.get("PHASE8_TUNE_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "phase8-tune"


@functools.cache
def code_version() -> str:
    """A digest of the sources that a trace depends on, and torch's version."""
    text = version("torch") + sources_digest((*MODEL_ROOMS, *_TRACING_ROOMS))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def sources_digest(rooms: tuple[str, ...]) -> str:
    """A digest of all Python sources in some of the package's folders."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for room in rooms:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


class PredictionStore:
    """Answers questions, from the folder where it can. Use as a context: it ends its processes.

    processes: how many trace at once; None: one a core.
    """

    def __init__(self, folder: Path | None = None, processes: int | None = None) -> None:
        self._folder = (folder or cache_folder()) / "predictions"
        self._processes = processes or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def ask(self, questions: Sequence[tuple[LineKey, Question]]) -> list[Answer]:
        """The answers, in order.

        Raises: UnsupportedVersionError (kernels.versions) where a version does not take a model.
        """
        by_line: dict[LineKey, list[Question]] = {}
        for key, question in questions:
            by_line.setdefault(key, []).append(question)
        known = {key: self._read(key) for key in by_line}
        waiting: dict[LineKey, tuple[list[Question], Future[list[Answer]]]] = {}
        for key, asked in by_line.items():
            missing = [q for q in dict.fromkeys(asked) if q.name() not in known[key]]
            if missing:
                job = LineJob(key=key, questions=tuple(missing), path=self._path(key, "line"))
                waiting[key] = missing, self._submit(job)
        for key, (missing, future) in waiting.items():
            found = future.result()
            known[key] |= {q.name(): a for q, a in zip(missing, found, strict=True)}
            self._write(key, known[key])
        return [known[key][question.name()] for key, question in questions]

    def largest_batch(self, key: LineKey, cap_bytes: int, workspaces: Workspaces) -> int:
        """The largest batch of a line that fits under a cap; 0 for none.

        Raises: UnsupportedVersionError (kernels.versions) where the version does not take the model.
        """
        path = self._path(key, f"largest-{cap_bytes}-{workspaces.blas_bytes}-{workspaces.blaslt_bytes}")
        try:
            return int(path.read_text())
        except (OSError, ValueError):  # not asked yet
            pass
        pool = self._processes_ready()
        largest = pool.submit(largest_batch, key, self._path(key, "line"), cap_bytes, workspaces).result()
        write_atomically(path, str(largest).encode())
        return largest

    def _submit(self, job: LineJob) -> Future[list[Answer]]:
        return self._processes_ready().submit(answer, job)

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
            return {name: _answer(fields) for name, fields in data.items()}
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return {}  # none yet, or a damaged file: asked again

    def _write(self, key: LineKey, answers: dict[str, Answer]) -> None:
        data = {name: asdict(item) for name, item in answers.items()}
        write_atomically(self._path(key, "json"), json.dumps(data).encode())


def _answer(fields: dict[str, Any]) -> Answer:
    costs = {name: tuple(values) for name, values in fields["costs"].items()}
    return Answer(**{**fields, "costs": costs})
