"""The seam between the tuner and what it tunes: a workload prepares a run of a candidate on a device.

A workload is named in the study: a name of `WORKLOADS`, or `module:attribute` for a user's own. Only the
worker process loads workloads.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..values.candidate import Candidate
from ..values.errors import UserInputError

if TYPE_CHECKING:
    import torch

    from ...kernels.gate import GateResult

WORKLOADS = {"phase8": "phase8_tune.tuner.builtin.phase8:WORKLOAD"}


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
    """The workload of that name.

    Raises: UserInputError for a name that is neither known nor an importable `module:attribute`.
    """
    target = WORKLOADS.get(name, name)
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise UserInputError(
            f"workload: expected one of {', '.join(WORKLOADS)} or module:attribute, got {name!r}"
        )
    try:
        workload = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UserInputError(
            f"workload: {name!r} cannot be imported ({error}); put its folder on PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise UserInputError(f"workload: {name!r} does not exist ({error})") from error
    if not isinstance(workload, Workload):
        kind = type(workload).__name__
        raise UserInputError(
            f"workload: expected {name!r} to have prepare(candidate, device, seed), got {kind}"
        )
    return workload
