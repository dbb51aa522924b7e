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
from dataclasses import dataclass, replace
from pathlib import Path

from ...kernels.versions import CAPTURED_VERSIONS, UnsupportedVersionError
from ..values.errors import UserInputError
from ..worker.main import die_with_parent
from ..workloads.loading import describe_error
from .fit.line import FIT_BATCHES, Line
from .fit.line_files import read_line, write_line
from .lines import Answer, ForeignKey, Key, Ladder, LineKey, Question, Rungs
from .trace.events import Trace
from .traced_line import TracedLine

BENDS_UNTIL_TOKENS = 32 * 1024
"""From so many tokens a batch on the head's chunks have their full size (kernels/htt_cross_entropy/plan.py:
CHUNK_BYTES at CHUNK_BYTES_PER_TOKEN), so that all sizes are straight; a test holds them equal."""
_NICENESS = 5
"""Of a process that traces, beside others that measure."""
_JOBS_A_COLLECTION = 16
_JOBS = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class LineJob:
    """Questions and ladders about one line; `path` is the line's file."""

    key: Key
    path: Path
    questions: tuple[Question, ...] = ()
    ladders: tuple[Ladder, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What a job found, in the order of its questions and ladders.

    problem: why nothing was, as the line cannot be followed. parameters: of a factory's model.
    """

    questions: tuple[Answer, ...] = ()
    ladders: tuple[Rungs, ...] = ()
    problem: str = ""
    parameters: int | None = None


def prepare_process() -> None:
    """Imports once, without a GPU and without Triton's interpreter: nothing is run here.

    Ctrl-C reaches every process of the terminal: the driver decides what it means, this one goes on, and ends
    with the driver.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    os.nice(_NICENESS)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a user's module prints is no output of the driver's
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
    if isinstance(job.key, ForeignKey):
        return _answer_foreign(job, job.key)
    key = job.key
    line = read_line(job.path) or Line(processors=key.limits.processors)
    traced = TracedLine(
        line,
        _tracing(key),
        depth=key.config().n_layers,
        is_captured=key.kernel_version in CAPTURED_VERSIONS,
        first_fit=max(-(-BENDS_UNTIL_TOKENS // key.n_seq), FIT_BATCHES[0]),
        input_bytes=lambda batch: 8 * batch * (key.n_seq + 1),
    )
    return _answered(job, traced)


def _answer_foreign(job: LineJob, key: ForeignKey) -> Answers:
    """Whatever a user's code raises there is why nothing is predicted of the line."""
    from .foreign import count_parameters, line_of
    from .trace.not_traceable import NotTraceable

    line = read_line(job.path) or Line(processors=key.limits.processors)
    try:
        found = _answered(job, line_of(key, line))
        return replace(found, parameters=count_parameters(key))
    except NotTraceable as error:
        return Answers(problem=str(error))
    except (Exception, SystemExit) as error:
        return Answers(problem=describe_error(error))


def _answered(job: LineJob, traced: TracedLine) -> Answers:
    line = traced.line
    known = len(line.traced)
    answered = traced.answer(job.questions)
    climbed = tuple(traced.climb(ladder) for ladder in job.ladders)
    if len(line.traced) != known:
        with contextlib.suppress(OSError):  # the driver says so, whose answers go to the same folder
            write_line(job.path, line)
    if next(_JOBS) % _JOBS_A_COLLECTION == 0:
        gc.collect()
        gc.freeze()  # what is left is kept for good: the next collection need not go through it
    return Answers(questions=answered, ladders=climbed)


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
