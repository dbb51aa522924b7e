"""What a process of the pool does: trace a line where it is not on disk yet, and answer questions about it.

Runs outside the driver: it imports torch.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...kernels.versions import CAPTURED_VERSIONS, UnsupportedVersionError
from ..values.errors import UserInputError
from ..worker.main import die_with_parent
from .fit.line import FIT_BATCHES, BatchSizes, Line, fit_line, trace_batch
from .fit.line_files import read_line, write_line
from .lines import Answer, LineKey, Question
from .replay.program import Peaks, Program
from .trace.events import Trace, Workspaces

_CLEARLY_BELOW = 0.6
"""A rough answer calls what stays under this share of the cap a fit: fragmentation takes less than that."""
_JOBS_A_COLLECTION = 16
_JOBS = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class LineJob:
    """Questions about one line; `path` is the line's file."""

    key: LineKey
    questions: tuple[Question, ...]
    path: Path


def prepare_process() -> None:
    """Imports once, without a GPU and without Triton's interpreter: nothing is run here.

    Ctrl-C reaches every process of the terminal: the driver decides what it means, this one goes on, and ends
    with the driver.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.pop("TRITON_INTERPRET", None)
    import torch

    torch.set_num_threads(1)
    from .trace import stepping  # noqa: F401

    gc.freeze()
    gc.disable()  # thousands of events a line and hardly a cycle: collected now and then, a tenth faster


def answer(job: LineJob) -> list[Answer]:
    """The answers to a job's questions, in order.

    Raises: UserInputError where the kernel version does not take the model.
    """
    key = job.key
    config = key.config()
    tracing = _tracing(key)
    line = read_line(job.path) or Line(processors=key.limits.processors)
    known = len(line.traced)
    is_captured = key.kernel_version in CAPTURED_VERSIONS
    programs: dict[int, Program] = {}
    answers: dict[Question, Answer] = {}
    refused: dict[tuple[int | None, Workspaces], Answer] = {}
    before: tuple[Question, Answer] | None = None
    for question in sorted(job.questions, key=lambda question: question.batch_size):
        limits = question.cap_bytes, question.workspaces
        sizes = line.at(question.batch_size)
        if sizes is None and question.is_rough and limits in refused:
            answers[question] = refused[limits]  # a smaller batch is over the cap already: at least that
            continue
        if sizes is None and _is_worth_fitting(line, question, before):
            fit_line(line, tracing, config.n_layers)
            sizes = line.at(question.batch_size)
        if sizes is None:
            sizes = trace_batch(line, question.batch_size, tracing, config.n_layers)
        if sizes.structure not in programs:
            programs[sizes.structure] = Program(line.structures[sizes.structure], is_captured=is_captured)
        answers[question] = _answer(question, sizes, programs[sizes.structure], line, key)
        before = question, answers[question]
        if not answers[question].fits:
            refused[limits] = answers[question]
    if len(line.traced) != known:
        with contextlib.suppress(OSError):  # the driver says so, whose answers go to the same folder
            write_line(job.path, line)
    if next(_JOBS) % _JOBS_A_COLLECTION == 0:
        gc.collect()
        gc.freeze()  # what is left is kept for good: the next collection need not go through it
    return [answers[question] for question in job.questions]


def _is_worth_fitting(line: Line, question: Question, before: tuple[Question, Answer] | None) -> bool:
    """Whether to trace the batches of a fit, and not this one alone: where they would be traced anyway.

    before: the smaller question of the same job and its answer. So many times its batch takes at most so many
    times its memory.
    """
    low, middle, _ = FIT_BATCHES
    if line.is_tried or question.batch_size <= low:
        return False
    if question.batch_size > middle:
        return True
    if before is None:
        return False
    smaller, answer = before
    cap = smaller.cap_bytes
    return cap is not None and answer.allocated_bytes * middle <= cap * smaller.batch_size


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
