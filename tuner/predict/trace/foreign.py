"""Traces a training step of any module: built by a factory on the meta device, stepped twice, evaluated.

Nothing is known of its blocks, so all of it is traced, and nothing of its steps, so both are run.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ...workloads.stepping import TrainingStepper
from ...workloads.training import Build, Factory, Training
from .autocast import autocast_as_on_cuda
from .cuda_choices import Capability, choosing_as_on_cuda
from .events import Trace
from .known_values import KnownValues
from .limits import Limits
from .not_traceable import NotTraceable, as_not_traceable, not_traceable
from .patches import as_on_cuda, replaced
from .tracer import Tracer


def trace_foreign(
    factory: Factory, build: Build, limits: Limits, capability: Capability, parts: int = 1
) -> Trace:
    """The trace of a factory's model: setup, two steps and an evaluation, on a GPU with these limits.

    build: its device is not looked at. capability: of the GPU. parts: batches of which a step gathers the
    gradients.
    Raises: NotTraceable.
    """
    collects = gc.isenabled()
    gc.disable()  # a collection would free at a moment of its own
    try:
        with _as_on_a_gpu(capability):
            return _trace(factory, build, limits, parts)
    except NotTraceable:
        raise
    except Exception as error:
        raise as_not_traceable(error) from error
    finally:
        if collects:
            gc.enable()


def _trace(factory: Factory, build: Build, limits: Limits, parts: int) -> Trace:
    device = torch.device("meta")
    tracer = Tracer(device, limits.processors)
    tracer.progress.is_marked, tracer.values = True, KnownValues()
    on_meta = Build(
        model=build.model, batch_size=build.batch_size, axes=build.axes, device=device, seed=build.seed
    )
    trace = Trace(depth=1)
    gradients: set[int] = set()
    with torch.autograd.set_multithreading_enabled(False), tracer:
        training = factory(on_meta)
        _refuse_compiled(training)
        weights = _weights(tracer, training)
        tracer.log.category = "activations"
        stepper = TrainingStepper(training, "cuda")
        batch = training.batch()
        trace.setup = tracer.log.take()
        with _marks(tracer, gradients):
            for part in ("first", "repeat"):
                tracer.progress.begin_step()
                tracer.work.costs = trace.costs = {}
                loss: Tensor | None = _step(tracer, stepper, batch, parts)
                del loss
                tracer.progress.follow()
                setattr(trace, part, tracer.log.take())
            tracer.progress.begin_step()
            tracer.work.costs = {}
            loss = stepper.evaluate(batch)
            del loss
            trace.evaluation = tracer.log.take()
    for slot in gradients:
        tracer.log.set_category(slot, "gradients")
    for slot, category in enumerate(tracer.log.categories):
        if category == "weights" and slot not in weights:
            tracer.log.set_category(slot, "activations")
    trace.categories = list(tracer.log.categories)
    return trace


def _step(tracer: Tracer, stepper: TrainingStepper, batch: Any, parts: int) -> Tensor:
    """One step. Of its parts two are taken: the first makes the gradients, and what the second does beside,
    every later one does too."""
    if parts == 1:
        return stepper.step(batch)
    stepper.accumulate(batch, parts)
    tracer.progress.begin_part()
    every, tracer.work.costs = tracer.work.costs, {}
    loss = stepper.accumulate(batch, parts)
    part, tracer.work.costs = tracer.work.costs, every
    tracer.work.merge(part, parts - 1)
    stepper.update()
    return loss


def _weights(tracer: Tracer, training: Training) -> set[int]:
    """Slots of parameters and buffers.

    Raises: NotTraceable where one lies elsewhere than on the device that was asked for.
    """
    slots: set[int] = set()
    for module in training.modules:
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.device.type != "meta":
                raise not_traceable(
                    f"{type(module).__name__}.{name}",
                    f"expected it on the device that the factory was asked for, it is on {tensor.device}",
                )
            slots.add(tracer.slot(tensor))
    return slots


def _refuse_compiled(training: Training) -> None:
    for module in training.modules:
        for inner in module.modules():
            if type(inner).__name__ == "OptimizedModule" or inner._compiled_call_impl is not None:
                raise not_traceable("torch.compile", _COMPILED)


_COMPILED = "a compiled region plans memory of its own"


@contextlib.contextmanager
def _marks(tracer: Tracer, gradients: set[int]) -> Iterator[None]:
    """While steps are taken: the tracer is told where optimizers work, and which slots are gradients."""

    def begins(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        tracer.progress.begin_optimizer()
        for group in optimizer.param_groups:
            gradients.update(tracer.slot(p.grad) for p in group["params"] if p.grad is not None)

    def ends(*_: Any) -> None:
        tracer.progress.end_optimizer()

    handles = register_optimizer_step_pre_hook(begins), register_optimizer_step_post_hook(ends)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _as_on_a_gpu(capability: Capability) -> Iterator[None]:
    def step_taken(scaler: Any, optimizer: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        return optimizer.step(*args, **kwargs)  # whether gradients are finite is what only data can say

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise not_traceable("torch.compile", _COMPILED)

    import torch._dynamo.eval_frame as eval_frame

    callback: Any = eval_frame._callback_from_stance

    def called(given: Any) -> Any:
        if given is not None and given is not False:
            raise not_traceable("torch.compile", _COMPILED)
        return callback(given)

    init = torch.autocast.__init__

    def of_cuda(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        init(self, "cuda" if device_type == "meta" else device_type, *args, **kwargs)

    with (
        as_on_cuda(),
        autocast_as_on_cuda(),
        choosing_as_on_cuda(capability),
        replaced(torch.amp.GradScaler, "_maybe_opt_step", step_taken),
        replaced(torch.autocast, "__init__", of_cuda),
        replaced(checkpointing, "_infer_device_type", lambda *_: "cuda"),
        replaced(torch, "compile", refuse),
        replaced(torch.nn.Module, "compile", refuse),
        replaced(eval_frame, "_callback_from_stance", called),
    ):
        yield
