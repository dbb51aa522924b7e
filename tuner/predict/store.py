"""Answers about lines: asked of whoever traces them, kept in the user's cache folder.

A line has two files: what was traced of it (`fit/line_files.py`), and the answers about it by question. Their
name depends on the line and the version of the code: the sources that are traced and those that trace, and
torch's own version.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from ..machine.cache_folder import warn_not_kept, writable_cache_folder
from ..machine.sources import sources_digest
from ..values.errors import DeviceError, UserInputError
from .jobs import Answers, LineJob
from .kept_answers import KeptAnswers, read_answers, write_answers
from .lines import Answer, Key, Ladder, Question, Rungs, answer_for, rungs_for, traced_key
from .tracers import LocalTracers, TracerLostError, Tracers

MODEL_ROOMS = (
    "kernels",
    *(
        f"phase8/{n}.py"
        for n in ("capture", "config", "embedding", "mixers", "model", "optimizer", "training")
    ),
)
"""Sources that a training step runs, folders and files: decoding is none of them."""
_TRACING_ROOMS = (
    "tuner/predict",
    *(f"tuner/builtin/phase8/{name}.py" for name in ("lines", "options", "tracing", "traced_trainer")),
)
_NAME = "predictions"


@functools.cache
def code_version() -> str:
    """A digest of the sources that a trace depends on, and torch's version."""
    text = version("torch") + sources_digest((*MODEL_ROOMS, *_TRACING_ROOMS))
    return hashlib.sha256(text.encode()).hexdigest()


class PredictionStore:
    """Answers questions, from the folder where it can. Use as a context: it ends its processes.

    processes: how many of this computer trace at once, None: one a core; or else who traces.
    """

    def __init__(
        self,
        folder: Path | None = None,
        processes: int | None = None,
        tracers: Tracers | None = None,
    ) -> None:
        self._folder = writable_cache_folder(_NAME) if folder is None else folder / _NAME
        self._tracers = LocalTracers(processes) if tracers is None else tracers
        self._is_warned = False
        self._parameters: dict[Key, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abandon()
        self._tracers.close()

    def abandon(self) -> None:
        """End what is being traced: nobody waits for an answer any more. Whoever asks gets a DeviceError."""
        self._tracers.abandon()

    def ask(
        self,
        questions: Sequence[tuple[Key, Question]],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Answer]:
        """The answers, in order. on_progress: told (lines done, lines to do) of those not known already.

        Raises: UserInputError where a version does not take a model, or a line cannot be followed;
        DeviceError where a process that traces was ended from outside; UserInputError where none can be
        started here.
        """
        answers: dict[tuple[Key, Question], Answer] = {}
        wanted: dict[Key, dict[Question, None]] = {}
        for key, question in questions:
            wanted.setdefault(traced_key(key), {})[question] = None
        jobs = [
            LineJob(key=key, path=self._path(key, "line"), questions=tuple(asked))
            for key, asked in wanted.items()
        ]
        # In no order of size, so that the share done says how much time is left.
        jobs.sort(key=lambda job: job.path.name)
        for job, found in self._answered(jobs, on_progress):
            if found.problem:
                raise UserInputError(
                    f"{job.key.workload} {job.key.model}: {found.problem}; measure it instead"
                )
            answers |= {(job.key, q): a for q, a in zip(job.questions, found.questions, strict=True)}
        return [answer_for(key, answers[traced_key(key), question]) for key, question in questions]

    def climb(
        self,
        ladders: Sequence[tuple[Key, Ladder]],
        on_rungs: Callable[[int, Rungs], None],
        on_problem: Callable[[int, str], None],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Climb ladders; `on_rungs` is told the place of each and what was found, as soon as it is, and
        `on_problem` why that is nothing, where a line cannot be followed.

        They are begun in their order. on_progress, Raises: as `ask`.
        """
        wanted: dict[Key, dict[Ladder, list[int]]] = {}
        for place, (key, ladder) in enumerate(ladders):
            wanted.setdefault(traced_key(key), {}).setdefault(ladder, []).append(place)
        jobs = [
            LineJob(key=key, path=self._path(key, "line"), ladders=tuple(asked))
            for key, asked in wanted.items()
        ]
        for job, found in self._answered(jobs, on_progress):
            if found.problem:
                for place in (place for places in wanted[job.key].values() for place in places):
                    on_problem(place, found.problem)
                continue
            for ladder, rungs in zip(job.ladders, found.ladders, strict=True):
                for place in wanted[job.key][ladder]:
                    on_rungs(place, rungs_for(ladders[place][0], rungs))

    def _answered(
        self, jobs: Sequence[LineJob], on_progress: Callable[[int, int], None]
    ) -> Iterator[tuple[LineJob, Answers]]:
        """Each job with its answers, those known already first, the others as they are found."""
        known = {job.key: self._read(job.key) for job in jobs}
        waiting: dict[Future[Answers], LineJob] = {}
        whole = {job.key: job for job in jobs}
        for job in jobs:
            missing = known[job.key].missing(job)
            if missing.questions or missing.ladders:
                waiting[self._tracers.submit(missing)] = missing
            else:
                yield job, self._noted(job, known[job.key])
        if waiting:
            on_progress(0, len(waiting))
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                asked = waiting[future]
                kept = known[asked.key]
                kept.add(asked, future.result())
                self._keep(asked.key, kept)
                on_progress(done, len(waiting))
                yield whole[asked.key], self._noted(whole[asked.key], kept)
        except TracerLostError as error:
            raise DeviceError(
                "a process that predicts was ended from outside, for want of memory perhaps; close other "
                "programs and run the same command again: what was predicted is kept"
            ) from error

    def parameters(self, key: Key) -> int:
        """Of a factory's model about which something was answered.

        Raises: KeyError where nothing was.
        """
        return self._parameters[key]

    def _noted(self, job: LineJob, kept: KeptAnswers) -> Answers:
        if kept.parameters is not None:
            self._parameters[job.key] = kept.parameters
        return kept.of(job)

    def _keep(self, key: Key, answers: KeptAnswers) -> None:
        """Write answers down; a disk that is full costs the next run time, and this one nothing."""
        try:
            self._write(key, answers)
        except OSError as error:
            if not self._is_warned:
                warn_not_kept(self._folder, error)
            self._is_warned = True

    def _path(self, key: Key, suffix: str) -> Path:
        return self._folder / f"{key.digest(code_version())}.{suffix}"

    def _read(self, key: Key) -> KeptAnswers:
        return read_answers(self._path(key, "json"))

    def _write(self, key: Key, answers: KeptAnswers) -> None:
        write_answers(self._path(key, "json"), answers)
