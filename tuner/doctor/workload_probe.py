"""Child process: a workload of the user's own built, stepped and traced, and what is wrong with it.

Run as `python -m phase8_tune.tuner.doctor.workload_probe CANDIDATE`, which is JSON.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import threading
import weakref
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from ..predict.foreign import predict_training
from ..predict.rate.calibration import present_profile
from ..predict.trace.not_traceable import NotTraceable
from ..values.candidate import Candidate
from ..values.sizes import format_mb
from ..workloads import load_factory
from ..workloads.factory import guarded, make_training
from ..workloads.loading import describe_error
from ..workloads.stepping import TrainingStepper
from ..workloads.training import Build, Factory, Training
from .answering import answer
from .answers import Tried, WorkloadAnswer

_STEPS = 3
_ALIKE = 0.05
"""A predicted peak that is off by no more than that share of the measured one is right."""


def probe() -> WorkloadAnswer:
    """What came of trying the candidate that the command line has."""
    candidate = Candidate.from_dict(json.loads(sys.argv[1]))
    tried: list[Tried] = []
    try:
        tried.extend(_each(candidate))
    # The border between a user's code and ours: whatever comes out of it is told.
    except Exception as error:
        tried.append(Tried(what="error", is_ok=False, told=describe_error(error)))
    return WorkloadAnswer(tried=tuple(tried))


def _each(candidate: Candidate) -> Iterator[Tried]:
    factory = load_factory(candidate.workload)
    if factory is None:
        told = "it has prepare(candidate, device, seed), which is only run"
        yield Tried(what="factory", is_ok=None, told=told)
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    build = Build(
        model=candidate.model,
        batch_size=candidate.batch_size,
        axes=dict(candidate.axes),
        device=device,
        seed=0,
    )
    threads = threading.active_count()
    training = make_training(factory, build)
    count = sum(p.numel() for module in training.modules for p in module.parameters())
    yield Tried(what="build", is_ok=True, told=f"{count:,} parameters on {device}")
    yield _where_it_lies(training, device)
    yield _batches(training, build)
    peak_bytes = yield from _steps(training, device)
    left = [weakref.ref(module) for module in training.modules]
    del training
    gc.collect()
    kept = sum(reference() is not None for reference in left)
    told = (
        f"{kept} of its modules are still there once it is let go; keep nothing outside of what is returned"
    )
    yield Tried(what="leaves nothing", is_ok=not kept, told=told if kept else "all of it is let go")
    if (more := threading.active_count() - threads) > 0:
        yield Tried(what="threads", is_ok=False, told=f"{more} threads go on; start none")
    yield _again(factory, build)
    yield _traced(factory, build, peak_bytes)


def _where_it_lies(training: Training, device: torch.device) -> Tried:
    for module in training.modules:
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.device.type != device.type:
                told = f"{type(module).__name__}.{name} is on {tensor.device}, which was not asked for"
                return Tried(what="device", is_ok=False, told=told)
    learned = {id(p) for m in training.modules for p in m.parameters() if p.requires_grad}
    stepped = {
        id(p)
        for optimizer in training.optimizers
        for group in optimizer.param_groups
        for p in group["params"]
    }
    if training.step is None and not learned <= stepped:
        told = f"{len(learned - stepped)} tensors are learned and in no optimizer; give it, or freeze them"
        return Tried(what="optimizers", is_ok=False, told=told)
    return Tried(what="device", is_ok=True, told="all of it is where it was asked for, and in an optimizer")


def _batches(training: Training, build: Build) -> Tried:
    first, second = (_shapes(guarded(training.batch)) for _ in range(2))
    shown = ", ".join(str(list(shape)) for shape in first)
    if first != second:
        other = ", ".join(str(list(shape)) for shape in second)
        return Tried(what="batch", is_ok=False, told=f"two batches differ in shape: {shown} and {other}")
    if not any(build.batch_size in shape for shape in first):
        told = f"no tensor has the {build.batch_size} samples that were asked for: {shown}"
        return Tried(what="batch", is_ok=False, told=told)
    return Tried(what="batch", is_ok=True, told=shown)


def _shapes(batch: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in tree_flatten(batch)[0] if isinstance(leaf, torch.Tensor)]


def _steps(training: Training, device: torch.device) -> Generator[Tried, None, int | None]:
    """Some steps and an evaluation; gives the most bytes that were allocated meanwhile, None on a
    processor."""
    before = _learned(training)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    stepper, batch = TrainingStepper(training, device.type), guarded(training.batch)
    losses = []
    for _ in range(_STEPS):
        losses.append(float(guarded(lambda: stepper.step(batch))))
    guarded(lambda: stepper.evaluate(batch))
    shown = ", ".join(f"{loss:.4g}" for loss in losses)
    if not all(map(math.isfinite, losses)):
        yield Tried(what="step", is_ok=False, told=f"the loss is not finite: {shown}")
        return None
    peak_bytes = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    still = sum(torch.equal(a, b) for a, b in zip(before, _learned(training), strict=True))
    if before and still == len(before):
        yield Tried(what="step", is_ok=False, told=f"{_STEPS} steps changed no parameter; losses {shown}")
        return None
    unmoved = f"; {still} of {len(before)} tensors did not change" if still else ""
    yield Tried(what="step", is_ok=True, told=f"losses {shown}{unmoved}")
    return peak_bytes


def _learned(training: Training) -> list[torch.Tensor]:
    """What is learned, as it is now, on the processor."""
    parameters = (p for module in training.modules for p in module.parameters() if p.requires_grad)
    return [parameter.detach().cpu().clone() for parameter in parameters]


def _again(factory: Factory, build: Build) -> Tried:
    """The same seed twice."""
    losses = []
    for _ in range(2):
        training = make_training(factory, build)
        loss = TrainingStepper(training, build.device.type).step(training.batch())
        losses.append(float(loss))
    alike = math.isclose(*losses, rel_tol=1e-2)
    told = f"first losses with one seed: {losses[0]:.4g} and {losses[1]:.4g}"
    hint = "; draw weights and batches from build.seed to have the same twice"
    return Tried(what="seed", is_ok=True if alike else None, told=told if alike else told + hint)


def _traced(factory: Factory, build: Build, peak_bytes: int | None) -> Tried:
    profile = present_profile()

    def build_of(batch: int) -> Build:
        return Build(
            model=build.model, batch_size=batch, axes=build.axes, device=torch.device("meta"), seed=build.seed
        )

    try:
        forecast = predict_training(factory, build_of, profile, None, build.batch_size)
    except NotTraceable as error:
        return Tried(what="prediction", is_ok=None, told=f"{error}; it is measured without")
    predicted_bytes = forecast.answer.allocated_bytes
    told = f"{format_mb(predicted_bytes)} MB of tensors at the peak, on {profile.title}"
    if peak_bytes is None:
        return Tried(what="prediction", is_ok=True, told=f"{told}; there is no GPU here to compare with")
    off = predicted_bytes / peak_bytes - 1
    told += f"; {format_mb(peak_bytes)} MB were measured here"
    return Tried(what="prediction", is_ok=abs(off) <= _ALIKE, told=told)


if __name__ == "__main__":
    answer(probe)
