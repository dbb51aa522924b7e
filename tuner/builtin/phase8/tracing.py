"""Drives the real trainer under the tracer: builds the model, takes two steps, evaluates, returns the trace.

Runs in worker processes: it imports torch.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....kernels import device_limits
from ....phase8.config import Phase8Config
from ....phase8.optimizer import CompactAdamW
from ....phase8.training import Trainer, TrainingOptions
from ...predict.trace.event_log import EventLog
from ...predict.trace.events import FREE, Cost, Event, Trace
from ...predict.trace.limits import Limits
from ...predict.trace.patches import as_on_cuda, replaced
from ...predict.trace.tracer import Tracer
from ...values.candidate import Mode
from .traced_trainer import TracedTrainer, traced_trainer

NOT_EVALUATED = ("reference",)
"""Versions of which steps alone are traced: an evaluation costs a third of a step's trace more, and of five
whole lives on an H200 it changed none (docs/predict.md)."""


def trace_training(
    config: Phase8Config,
    options: TrainingOptions,
    *,
    batch_size: int,
    limits: Limits,
    mode: Mode = "train",
    depth: int | None = None,
    steps: int = 1,
    parts: int = 1,
) -> Trace:
    """The trace of a model's setup, two steps and an evaluation on a GPU with these limits, made without one.

    depth: number of blocks instead of the configuration's own. steps: how many are run; of 1 the second is
    derived: it does what the first did, but for what the first created to stay. parts: batches of which a
    step gathers the gradients; of more than one a part that finds gradients is traced, and counted as often.
    Raises: UnsupportedVersionError where the kernel version does not take this model.
    """
    if depth is not None:
        config = replace(config, n_layers=depth)
    _warm_up()
    return _trace_without_gpu(config, options, batch_size, mode, limits, steps, parts)


@functools.cache
def _warm_up() -> None:
    """What a process does once only, such as an operation's first call keeping its result, is not traced."""
    tiny = Phase8Config(d_model=8, n_layers=1, n_heads=1, n_seq=4, htt_rank=1, vocab_size=16)
    limits = Limits(shared_memory_bytes=1, multiprocessors=1, threads_per_multiprocessor=2048)
    _trace_without_gpu(tiny, TrainingOptions(mixed_precision="fp16"), 1, "train", limits, 1)


def _trace_without_gpu(
    config: Phase8Config,
    options: TrainingOptions,
    batch_size: int,
    mode: Mode,
    limits: Limits,
    steps: int,
    parts: int = 1,
) -> Trace:
    with (
        device_limits.assuming_limits(
            shared_memory_bytes=limits.shared_memory_bytes, multiprocessors=limits.multiprocessors
        ),
        as_on_cuda(),
    ):
        collects = gc.isenabled()
        gc.disable()  # a collection would free at a moment of its own
        try:
            built = traced_trainer(config, options, limits)
            built.rewind()
            with _without_launches(built.tracer):
                return _trace(built, batch_size, mode, steps, parts)
        except BaseException:
            traced_trainer.cache_clear()  # it may hold what the step had not given back
            raise
        finally:
            if collects:
                gc.enable()


def _trace(built: TracedTrainer, batch_size: int, mode: Mode, steps: int, parts: int) -> Trace:
    tracer, trainer = built.tracer, built.trainer
    config = trainer.model.config
    trace = Trace(depth=config.n_layers)
    with torch.autograd.set_multithreading_enabled(False), tracer:
        tracer.log.category = "activations"
        tracer.work.is_forward_only = mode == "forward"
        tokens = torch.zeros(batch_size, config.n_seq + 1, dtype=torch.int64, device=tracer.device)
        trace.setup = [*built.setup, *tracer.log.take()]
        gradients: set[int] = set()
        with _marks(tracer, trainer):
            if parts > 1 and mode == "train":
                _trace_parts(trace, trainer, tokens, tracer, gradients, parts)
            else:
                _trace_steps(trace, trainer, tokens, mode, tracer, gradients, steps)
            if mode == "train" and trainer.options.kernel_version not in NOT_EVALUATED:
                trace.evaluation = _evaluation(trainer, tokens, tracer)
    for slot in gradients:
        tracer.log.set_category(slot, "gradients")
    for slot, category in enumerate(tracer.log.categories):
        if category == "weights" and slot not in built.weights:
            tracer.log.set_category(slot, "activations")
    trace.categories = tracer.log.categories
    return trace


def _trace_steps(
    trace: Trace,
    trainer: Trainer,
    tokens: Tensor,
    mode: Mode,
    tracer: Tracer,
    gradients: set[int],
    steps: int,
) -> None:
    taken = []
    for _ in range(steps):
        tracer.progress.begin_step()
        tracer.work.costs = trace.costs = {}
        loss = _run(trainer, tokens, mode, tracer, gradients)
        del loss
        taken.append(tracer.log.take())
    trace.first = taken[0]
    trace.repeat = taken[-1] if steps > 1 else repeated_step(taken[0], tracer.log)


def _trace_parts(
    trace: Trace, trainer: Trainer, tokens: Tensor, tracer: Tracer, gradients: set[int], parts: int
) -> None:
    """The first step as its first part, which makes the gradients, and the update; every other as a part that
    finds them, and the update: what memory is concerned, all its parts are alike."""
    events: list[list[Event]] = []
    costs: dict[tuple[str, int], Cost] = {}
    tracer.progress.begin_step()
    for _ in range(2):
        tracer.progress.begin_part()
        tracer.work.costs = costs = {}
        loss = trainer._accumulate(tokens, parts)
        del loss
        events.append(tracer.log.take())
    tracer.work.costs = trace.costs = {}
    tracer.work.merge(costs, parts)
    gradients.update(tracer.slot(p.grad) for p in trainer.model.parameters() if p.grad is not None)
    trainer._update(tokens)
    updated = tracer.log.take()
    trace.first = [*events[0], *updated]
    trace.repeat = repeated_step([*events[1], *updated], tracer.log)


def _evaluation(trainer: Trainer, tokens: Tensor, tracer: Tracer) -> list[Event]:
    """The events of an evaluation after a step; what it costs is no part of a step's costs."""
    tracer.progress.begin_step()
    tracer.work.costs = {}
    loss = trainer._evaluate(tokens)
    del loss
    return tracer.log.take()


def repeated_step(first: Sequence[Event], log: EventLog) -> list[Event]:
    """The second step's events from the first's: without what stays, in slots of its own.

    Raises: ValueError for a first step that frees what was there before it.
    """
    freed = {event.slot for event in first if event.size_bytes == FREE}
    if not freed <= {event.slot for event in first if event.size_bytes != FREE}:
        raise ValueError("the first step frees what was made before it: trace the second too")
    renamed = {
        slot: log.new_slot_like(slot) for slot in dict.fromkeys(e.slot for e in first) if slot in freed
    }
    return [
        Event(renamed[slot], size, op, phase, unit, growth, scratch)
        for slot, size, op, phase, unit, growth, scratch in first
        if slot in freed
    ]


def _run(trainer: Trainer, tokens: Tensor, mode: Mode, tracer: Tracer, gradients: set[int]) -> Tensor:
    """One eager step or evaluation; notes which slots hold gradients once the backward pass is done."""
    if mode == "forward":
        return trainer._evaluate(tokens)
    apply = trainer._apply_gradients

    def noting() -> None:
        gradients.update(tracer.slot(p.grad) for p in trainer.model.parameters() if p.grad is not None)
        apply()

    with replaced(trainer, "_apply_gradients", noting):
        return trainer._step(tokens)


@contextlib.contextmanager
def _marks(tracer: Tracer, trainer: Trainer) -> Iterator[None]:
    """While the model runs: the tracer is told where blocks and the loss begin."""
    handles = [
        block.register_forward_pre_hook(lambda *_, unit=index: tracer.progress.begin_block(unit))
        for index, block in enumerate(trainer.model.blocks)
    ]
    loss: Callable[..., Tensor] = trainer.model.embedding.loss

    def marked(*args: Any) -> Tensor:
        tracer.progress.begin_loss()
        return loss(*args)

    with (
        replaced(trainer.model.embedding, "loss", marked),
        _marks_of_scaling(tracer, trainer),
        _marks_of_weights(tracer, trainer),
    ):
        yield
    for handle in handles:
        handle.remove()


@contextlib.contextmanager
def _marks_of_scaling(tracer: Tracer, trainer: Trainer) -> Iterator[None]:
    """While the model runs: the tracer is told when the scaler works, but for the step it takes."""

    def told(function: Callable[..., Any], is_scaling: bool) -> Callable[..., Any]:
        def marked(*args: Any, **kwargs: Any) -> Any:
            before, tracer.work.is_scaling = tracer.work.is_scaling, is_scaling
            try:
                return function(*args, **kwargs)
            finally:
                tracer.work.is_scaling = before

        return marked

    with contextlib.ExitStack() as stack:
        for name in ("scale", "unscale_", "step", "update") if trainer.scaler.is_enabled() else ():
            marked = told(getattr(trainer.scaler, name), True)
            stack.enter_context(replaced(trainer.scaler, name, marked))
            if name == "step":
                stepping = told(trainer.optimizer.step, False)
                stack.enter_context(replaced(trainer.optimizer, "step", stepping))
        yield


@contextlib.contextmanager
def _marks_of_weights(tracer: Tracer, trainer: Trainer) -> Iterator[None]:
    """While the model runs: the tracer is told whose weight an optimizer of our own is at work on."""
    optimizer = trainer.optimizer
    if not isinstance(optimizer, CompactAdamW):
        yield
        return
    update = optimizer._update

    def marked(weight: Tensor, *args: Any) -> None:
        with replaced(tracer.log, "unit", tracer.log.unit_of_slot[tracer.slot(weight)]):
            update(weight, *args)

    with replaced(optimizer, "_update", marked):
        yield


@contextlib.contextmanager
def _without_launches(tracer: Tracer) -> Iterator[None]:
    """Triton kernels are not launched: the tracer notes what they would read and write."""
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    def run(kernel: Any, *args: Any, **kwargs: Any) -> None:
        tracer.work.launch(kernel, args, kwargs, tracer.log.unit)

    with replaced(JITFunction, "run", run), replaced(InterpretedFunction, "run", run):
        yield
