"""The seam between the tuner and what it tunes: a workload prepares a run of a candidate on a device.

A workload is named in the study: one that comes with it, or `file.py:factory`, `module:factory` or an entry
point for a user's own. Only processes that measure or trace load workloads; what the driver must know of one
says its spec (`spec.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..values.axes import Axis
from ..values.candidate import Candidate
from ..values.errors import UserInputError
from ..values.workload_spec import WorkloadSpec
from .loading import load_named
from .training import Build, Factory, Training

if TYPE_CHECKING:
    import torch

    from ...kernels.gate import GateResult

# The first five are what a user's own file is written with.
__all__ = [
    "Axis",
    "Build",
    "CheckedWorkload",
    "Factory",
    "PositionedRun",
    "PreparedRun",
    "Training",
    "Workload",
    "WorkloadSpec",
    "load_factory",
    "load_workload",
]


class PreparedRun(Protocol):
    """A candidate, ready to run: everything it needs is on the device."""

    @property
    def parameters(self) -> int:
        """Number of learned scalars."""
        ...

    @property
    def setup_calls(self) -> int:
        """Calls of `run_once` that compile or capture something: from the next on, all are alike."""
        ...

    def run_once(self) -> torch.Tensor:
        """Do one iteration of the candidate's mode and return its loss, a scalar, without synchronising."""
        ...

    def finish(self) -> None:
        """Once the iterations are timed: what a training does beside its steps and needs memory for, as to
        evaluate, so that its peak is that of a training's whole life."""
        ...

    def close(self) -> None:
        """Let go of everything on the device."""
        ...


@runtime_checkable
class PositionedRun(PreparedRun, Protocol):
    """A run whose model has a table of positions, which makes it no larger in the eyes of a search."""

    @property
    def body_parameters(self) -> int:
        """Number of learned scalars without those of the table."""
        ...


@runtime_checkable
class Workload(Protocol):
    """What can be tuned."""

    def prepare(self, candidate: Candidate, device: torch.device, seed: int) -> PreparedRun:
        """Build the candidate's run on `device`, with weights and tokens drawn from `seed`.

        Raises: whatever goes wrong; the worker classifies it. Nothing may be left on the device then but
        what the exception's frames hold.
        """
        ...


@runtime_checkable
class CheckedWorkload(Workload, Protocol):
    """A workload that can tell whether a kernel version computes on a device what it should."""

    def check(self, candidate: Candidate, device: torch.device) -> Sequence[GateResult]:
        """The gate's result for every operation of the candidate's version, at its precision.

        Raises: whatever keeps a kernel from running there; the worker classifies it.
        """
        ...


def load_workload(name: str) -> Workload:
    """The workload of that name; a factory as one that runs what it makes.

    Raises: UserInputError for a name that is none, or for what is neither a workload nor a factory.
    """
    _, found = load_named(name)
    if isinstance(found, Workload):
        return found
    if not callable(found):
        kind = type(found).__name__
        raise UserInputError(
            f"workload: expected {name!r} to be a factory, or to have prepare(candidate, device, seed), "
            f"got {kind}"
        )
    from .factory import FactoryWorkload

    return FactoryWorkload(found)


def load_factory(name: str) -> Factory | None:
    """The factory of that name; None for a workload that is none.

    Raises: UserInputError as `load_workload`.
    """
    _, found = load_named(name)
    if isinstance(found, Workload):
        return None
    if not callable(found):
        raise UserInputError(f"workload: expected {name!r} to be a factory, got {type(found).__name__}")
    factory: Factory = found
    return factory
