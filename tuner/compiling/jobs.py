"""What a process that compiles ahead does: find what a candidate launches, and compile one form of a kernel.

Runs outside the driver: it imports torch and Triton.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..predict.lines import LineKey
from ..predict.trace.limits import Limits
from ..values.candidate import DEFAULT_WORKLOAD, Precision
from ..worker.main import die_with_parent
from ..workloads import load_workload
from .specialization import Compiled, Specialization

_NICENESS = 10
"""Predictions, and whatever else wants the processors, go first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingLaunches:
    """Asks for what a training of a line launches at a batch."""

    key: LineKey
    batch_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckLaunches:
    """Asks for what the check of a kernel version launches on a GPU with these limits.

    optimizer: with that of the step of an optimizer of our own.
    """

    kernel_version: str
    mixed_precision: Precision
    optimizer: bool
    limits: Limits


Launches = TrainingLaunches | CheckLaunches


@runtime_checkable
class CompiledWorkload(Protocol):
    """A workload whose kernels can be compiled before they are launched."""

    def launches(self, key: LineKey, batch_size: int, architecture: int) -> list[Specialization]:
        """What a training of a line launches at a batch, each form once, in the order of their first launch.

        Raises: UnsupportedVersionError where the kernel version does not take the model.
        """
        ...


def prepare_compiler(environment: Mapping[str, str], log: Path | None) -> None:
    """As a process that predicts, but behind all others, and with the caches of the process that measures.

    environment: to be added to. log: where the compiler's own messages go, None for nowhere.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    os.nice(_NICENESS)
    os.environ.update(environment)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.pop("TRITON_INTERPRET", None)
    _write_to(log)
    import torch

    torch.set_num_threads(1)
    from . import launches, target  # noqa: F401
    from .dynamo import leave_dynamo_out

    load_workload(DEFAULT_WORKLOAD)
    leave_dynamo_out()


def _write_to(log: Path | None) -> None:
    """Standard output and error go to a file: what compilers print is nothing for a terminal."""
    try:
        target = os.open(os.devnull if log is None else log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:  # a folder that is full or gone: the driver has its own say about that
        target = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def is_ready() -> bool:
    """Answered once the process has imported what it needs."""
    return True


def find_launches(asked: Launches, architecture: int) -> list[Specialization]:
    """The forms of kernels that are launched, each once, in the order of their first launch.

    Raises: UnsupportedVersionError where the kernel version does not take the model.
    """
    if isinstance(asked, CheckLaunches):
        from .launches import check_launches

        return check_launches(
            asked.kernel_version,
            asked.mixed_precision,
            optimizer=asked.optimizer,
            limits=asked.limits,
            architecture=architecture,
        )
    workload = load_workload(asked.key.workload)
    assert isinstance(workload, CompiledWorkload)
    return workload.launches(asked.key, asked.batch_size, architecture)


def compile_form(form: Specialization, architecture: int) -> Compiled:
    """Have a form of a kernel in Triton's cache.

    Raises: RuntimeError for a kernel that Triton cannot compile, with what it says: not all exceptions of its
    own can be sent to another process.
    """
    from .target import compile_specialization

    try:
        return compile_specialization(form, architecture)
    # Whatever comes out of a compiler is told: the kernel is compiled where it is launched, or fails there.
    except Exception as error:
        raise RuntimeError(f"{form.name}: {type(error).__name__}: {error}") from None
