"""A factory as a workload: its training step is run as any other. Imports torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import torch

from ..values.candidate import Candidate
from ..values.workload_spec import known_spec
from .global_state import GlobalState
from .stepping import SETUP_CALLS, TrainingStepper
from .trainer import take_step
from .training import Build, Factory, Training

T = TypeVar("T")


class WorkloadError(RuntimeError):
    """What a workload's own code does and may not do; one line for its author."""


class FactoryRun:
    """The model that a factory made, with one batch."""

    setup_calls = SETUP_CALLS

    def __init__(
        self, training: Training, candidate: Candidate, device: torch.device, before: GlobalState
    ) -> None:
        """before: what the process had before the factory was called, and has again once this is closed.

        Raises: WorkloadError where a loss is needed, and only a whole step is known.
        """
        self._before = before
        self.parameters = _count(training.modules)
        spec = known_spec(candidate.workload)
        positions = None if spec is None else spec.position_parameters
        of_table = 0 if positions is None else positions(candidate.model, candidate.axes)
        self.body_parameters = self.parameters - of_table
        self._stepper = TrainingStepper(training, device.type)
        for said, needs_loss in (
            ("mode forward", candidate.mode == "forward"),
            (f"{candidate.parts} batches a step", candidate.parts > 1),
        ):
            if needs_loss and training.loss is None:
                raise WorkloadError(f"{said}: expected a Training that has a loss, got one that has a step")
        self._is_training, self._parts = candidate.mode == "train", candidate.parts
        self._batch = guarded(training.batch)

    def run_once(self) -> torch.Tensor:
        """One step, or one loss.

        Raises: WorkloadError where that is not one number; what the step raises.
        """
        loss = guarded(self._train if self._is_training else self._evaluate)
        assert loss is not None  # there is a loss, or the mode is not forward
        return loss

    def finish(self) -> None:
        """Evaluate once, as a training does, where a loss is known; of a whole step none is.

        Raises: as `run_once`.
        """
        if self._is_training:
            guarded(self._evaluate)

    def _train(self) -> torch.Tensor:
        return take_step(self._stepper, lambda: self._batch, self._parts)

    def _evaluate(self) -> torch.Tensor | None:
        return self._stepper.evaluate(self._batch)

    def close(self) -> None:
        """Let go of the model and its batch, and undo what its code has set for the whole process."""
        del self._stepper, self._batch
        self._before.restore()


def _checked(call: Callable[[Any], torch.Tensor] | None) -> Callable[[Any], torch.Tensor] | None:
    """A loss or a step whose answer is seen to be one number."""
    if call is None:
        return None

    def checked(batch: Any) -> torch.Tensor:
        loss: object = call(batch)
        if isinstance(loss, torch.Tensor) and loss.numel() == 1:
            return loss
        got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else repr(loss)
        raise WorkloadError(f"expected {place_of(call)} to return a scalar tensor, got {got}")

    return checked


class FactoryWorkload:
    """Prepares a `FactoryRun`."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory

    def prepare(self, candidate: Candidate, device: torch.device, seed: int) -> FactoryRun:
        """Raises: WorkloadError where the factory gives no `Training`; whatever the factory raises."""
        build = Build(
            model=candidate.model,
            batch_size=candidate.batch_size,
            axes=dict(candidate.axes),
            device=device,
            seed=seed,
        )
        before = GlobalState.now()
        try:
            return FactoryRun(make_training(self._factory, build), candidate, device, before)
        except BaseException:
            before.restore()
            raise


def make_training(factory: Factory, build: Build) -> Training:
    """What a factory makes; its loss, or step, raises WorkloadError where it gives no single number.

    Raises: WorkloadError where it makes no `Training`; whatever the factory raises.
    """
    training: object = guarded(lambda: factory(build))
    if not isinstance(training, Training):
        raise WorkloadError(
            f"expected {place_of(factory)} to return a Training, got {type(training).__name__}"
        )
    return replace(training, loss=_checked(training.loss), step=_checked(training.step))


def place_of(factory: object) -> str:
    """Where a factory is written: `build (my_model.py:12)`."""
    name = getattr(factory, "__name__", type(factory).__name__)
    try:
        code: Any = inspect.unwrap(factory) if callable(factory) else factory
        return f"{name} ({inspect.getsourcefile(code)}:{inspect.getsourcelines(code)[1]})"
    except (OSError, TypeError):
        return str(name)


def guarded(call: Callable[[], T]) -> T:
    """What a call of a workload's own code gives.

    Raises: WorkloadError where it asks the process to end, which is not its own; whatever else it raises.
    """
    try:
        return call()
    except SystemExit as error:
        raise WorkloadError(f"the workload's code called sys.exit({error.code!r})") from error


def _count(modules: Iterable[torch.nn.Module]) -> int:
    """Scalars of the modules' parameters, frozen ones too, shared ones once."""
    found = {id(p): p.numel() for module in modules for p in module.parameters()}
    return sum(found.values())
