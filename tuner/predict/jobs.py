"""What a process of the pool does: trace a line where it is not on disk yet, and answer questions about it.

Runs outside the driver: it imports torch.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...kernels.versions import CAPTURED_VERSIONS, UnsupportedVersionError
from ..values.errors import UserInputError
from ..worker.main import die_with_parent
from .climb import largest_fitting, rounder, rungs
from .fit.line import FIT_BATCHES, BatchSizes, FitBatches, Line, fit_line, trace_batch
from .fit.line_files import read_line, write_line
from .lines import Answer, Ladder, LineKey, Question, Rungs
from .replay.program import Peaks, Program
from .trace.events import Trace

BENDS_UNTIL_TOKENS = 32 * 1024
"""From so many tokens a batch on the head's chunks have their full size (kernels/htt_cross_entropy/plan.py:
CHUNK_BYTES at CHUNK_BYTES_PER_TOKEN), so that all sizes are straight; a test holds them equal."""
_NICENESS = 5
"""Of a process that traces, beside others that measure."""
_CLEARLY_BELOW = 0.6
"""A rough answer calls what stays under this share of the cap a fit: fragmentation takes less than that."""
_JOBS_A_COLLECTION = 16
_JOBS = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class LineJob:
    """Questions and ladders about one line; `path` is the line's file."""

    key: LineKey
    path: Path
    questions: tuple[Question, ...] = ()
    ladders: tuple[Ladder, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What a job found, in the order of its questions and ladders."""

    questions: tuple[Answer, ...] = ()
    ladders: tuple[Rungs, ...] = ()


def prepare_process() -> None:
    """Imports once, without a GPU and without Triton's interpreter: nothing is run here.

    Ctrl-C reaches every process of the terminal: the driver decides what it means, this one goes on, and ends
    with the driver.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    os.nice(_NICENESS)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.pop("TRITON_INTERPRET", None)
    import torch

    torch.set_num_threads(1)
    from .trace import stepping  # noqa: F401

    gc.freeze()
    gc.disable()  # thousands of events a line and hardly a cycle: collected now and then, a tenth faster


def answer(job: LineJob) -> Answers:
    """The answers to a job.

    Raises: UserInputError where the kernel version does not take the model.
    """
    line = _TracedLine(job.key, job.path)
    answered = line.answer(job.questions)
    climbed = tuple(line.climb(ladder) for ladder in job.ladders)
    line.keep()
    if next(_JOBS) % _JOBS_A_COLLECTION == 0:
        gc.collect()
        gc.freeze()  # what is left is kept for good: the next collection need not go through it
    return Answers(questions=answered, ladders=climbed)


class _TracedLine:
    """A line with its file, traced further where an answer needs it."""

    def __init__(self, key: LineKey, path: Path) -> None:
        self._key, self._path = key, path
        self._depth, self._tracing = key.config().n_layers, _tracing(key)
        self._line = read_line(path) or Line(processors=key.limits.processors)
        self._known = len(self._line.traced)
        self._is_captured = key.kernel_version in CAPTURED_VERSIONS
        self._programs: dict[int, Program] = {}

    def keep(self) -> None:
        if len(self._line.traced) != self._known:
            with contextlib.suppress(OSError):  # the driver says so, whose answers go to the same folder
                write_line(self._path, self._line)

    def answer(self, questions: Sequence[Question]) -> tuple[Answer, ...]:
        """In order; asked from the smallest batch on."""
        found = {
            question: self._asked(question, self._fit_for(question.batch_size))
            for question in sorted(questions, key=lambda question: question.batch_size)
        }
        return tuple(found[question] for question in questions)

    def climb(self, ladder: Ladder) -> Rungs:
        """The largest batch of a ladder that fits, and what is live at some batches up to there."""

        def ask(batch: int) -> Answer:
            question = Question(
                batch_size=batch, cap_bytes=ladder.cap_bytes, workspaces=ladder.workspaces, is_rough=True
            )
            if question not in answers:
                answers[question] = self._asked(question, self._fit_for(batch))
            return answers[question]

        answers: dict[Question, Answer] = {}
        place = largest_fitting(
            ladder.batches,
            ladder.cap_bytes,
            lambda batch: ask(batch).allocated_bytes,
            lambda batch: ask(batch).fits,
        )
        worthwhile = set(rungs(ladder.batches, place))
        if isinstance(ladder.batches, range):
            # No batch is traced for its own sake: others say what lies between them.
            end = ladder.batches[min(place + 1, len(ladder.batches) - 1)]
            worthwhile = {batch for batch in worthwhile if self._line.at(batch) is not None}
            worthwhile |= {batch for batch in self._line.traced if batch in ladder.batches and batch <= end}
        answered = {batch: ask(batch) for batch in sorted(worthwhile)}
        largest = 0 if place < 0 else ladder.batches[place]
        return Rungs(
            largest=largest, answers=answered, recommended=self._recommended(ladder, largest, answered)
        )

    def _recommended(
        self, ladder: Ladder, largest: int, answered: Mapping[int, Answer]
    ) -> tuple[int, Answer] | None:
        """The largest of the rounder batches under the lower cap; live bytes say where to begin, where the
        largest is the last before the cap."""
        start = largest
        below = [batch for batch in answered if batch < largest]
        is_at_cap = isinstance(ladder.batches, range) and largest < ladder.batches[-1]
        if is_at_cap and largest in answered and below:
            grown = answered[largest].allocated_bytes - answered[below[-1]].allocated_bytes
            each = grown / (largest - below[-1])
            if each > 0:
                start = largest - int((ladder.cap_bytes - ladder.spare_cap_bytes) / each)
        for batch in rounder(ladder.batches, max(start, ladder.batches[0]) if largest else 0):
            question = Question(
                batch_size=batch, cap_bytes=ladder.spare_cap_bytes, workspaces=ladder.workspaces
            )
            answer = self._asked(question, self._fit_for(batch))
            if answer.fits:
                own = replace(question, cap_bytes=ladder.own_cap_bytes)
                return batch, self._asked(own, None) if answer.retries else answer
        return None

    def _fit_for(self, batch: int) -> FitBatches | None:
        """The batches to trace for one between bounds; None where it is traced alone.

        Where sizes bend longer than the head's, as those do that grow with the multiprocessors in use, larger
        ones are tried.
        """
        first = max(-(-BENDS_UNTIL_TOKENS // self._key.n_seq), FIT_BATCHES[0])
        while batch >= first:
            fit = first, 2 * first, 8 * first
            if not self._line.is_tried(fit):
                return fit
            first *= 4
        return None

    def _asked(self, question: Question, fit: FitBatches | None) -> Answer:
        line, batch = self._line, question.batch_size
        sizes = line.at(batch)
        if sizes is None and fit is not None and not line.is_tried(fit):
            fit_line(line, self._tracing, self._depth, fit)
            sizes = line.at(batch)
        if sizes is None:
            sizes = trace_batch(line, batch, self._tracing, self._depth)
        if sizes.structure not in self._programs:
            structure = line.structures[sizes.structure]
            self._programs[sizes.structure] = Program(structure, is_captured=self._is_captured)
        return _answer(question, sizes, self._programs[sizes.structure], line, self._key)


def _tracing(key: LineKey) -> Callable[[int, int], Trace]:
    from ...phase8.training import TrainingOptions
    from .trace.stepping import trace_training

    options = TrainingOptions(
        kernel_version=key.kernel_version,
        gradient_checkpointing=key.gradient_checkpointing,
        mixed_precision=key.mixed_precision,
    )

    def tracing(batch: int, depth: int) -> Trace:
        try:
            return trace_training(
                key.config(), options, batch_size=batch, limits=key.limits, mode=key.mode, depth=depth
            )
        except UnsupportedVersionError as error:  # for a size of the user's own: presets are taken by all
            raise UserInputError(f"{key.model} with kernels {key.kernel_version}: {error}") from None

    return tracing


def _answer(question: Question, sizes: BatchSizes, program: Program, line: Line, key: LineKey) -> Answer:
    whole = line.structures[sizes.structure].whole(sizes.sizes)
    fits, peaks = None, None
    if question.is_rough and question.cap_bytes is not None:
        peaks = program.live(whole, question.workspaces)
        if peaks.allocated_bytes > question.cap_bytes:
            fits = False
        elif peaks.allocated_bytes < question.cap_bytes * _CLEARLY_BELOW:
            fits = True
    if fits is None or peaks is None:
        peaks = program.replay(
            whole,
            workspaces=question.workspaces,
            cap_bytes=question.cap_bytes,
            input_bytes=8 * question.batch_size * (key.n_seq + 1),
        )
        fits = peaks.fits
    return _as_answer(peaks, fits, program, sizes)


def _as_answer(peaks: Peaks, fits: bool, program: Program, sizes: BatchSizes) -> Answer:
    return Answer(
        fits=fits,
        allocated_bytes=peaks.allocated_bytes,
        reserved_bytes=peaks.reserved_bytes,
        by_category=peaks.by_category,
        peak_op=peaks.peak_op,
        peak_phase=peaks.peak_phase,
        retries=peaks.retries,
        is_captured=program.is_captured,
        costs={name: (c.flops, c.moved_bytes, c.launches) for name, c in sizes.costs.items()},
    )
