"""What a process of the pool does: trace a line where it is not on disk yet, and answer questions about it.

Runs outside the driver: it imports torch.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..worker.main import die_with_parent
from ..workloads import load_workload
from ..workloads.loading import describe_error
from .fit.line import Line
from .fit.line_files import read_line, write_line
from .lines import Answer, ForeignKey, Key, Ladder, LineKey, Question, Rungs
from .traced_line import BlockTracing, TracedLine

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


@runtime_checkable
class TracedWorkload(Protocol):
    """A workload whose steps are traced block by block."""

    def tracing(self, key: LineKey) -> BlockTracing:
        """How a line is traced. Raises: UserInputError where the kernel version does not take the model."""
        ...


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
    from .trace import tracer  # noqa: F401

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
    workload = load_workload(key.workload)
    assert isinstance(workload, TracedWorkload)
    how = workload.tracing(key)
    traced = TracedLine(
        line,
        how.tracing,
        depth=how.depth,
        is_captured=how.is_captured,
        first_fit=how.first_fit,
        input_bytes=how.input_bytes,
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
