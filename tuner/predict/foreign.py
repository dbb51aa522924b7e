"""What is predicted of a factory's model on a card: the same pipeline, without anything known of its blocks.

Runs in a process that predicts: it imports torch, and the factory's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..values.errors import UserInputError
from ..values.workload_spec import known_spec
from ..workloads import load_factory
from ..workloads.factory import make_training
from ..workloads.training import Build, Factory
from .fit.line import FIT_BATCHES, Line
from .lines import Answer, ForeignKey, Ladder, Question, limits_of
from .rate.profiles import GpuProfile
from .trace.events import Trace
from .trace.foreign import trace_foreign
from .traced_line import TracedLine


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingForecast:
    """What a training takes of a card. peak_bytes: of the process; None where it does not fit."""

    batch_size: int
    answer: Answer
    peak_bytes: int | None

    @property
    def fits(self) -> bool:
        return self.answer.fits


def training_line(
    factory: Factory, build_of_batch: Callable[[int], Build], profile: GpuProfile, line: Line | None = None
) -> TracedLine:
    """The line of a factory's model, all batches of it.

    build_of_batch: what the factory is asked for at a batch. line: what is known of it already, added to.
    """
    limits = limits_of(profile)
    major, minor = profile.compute_capability.split(".")
    capability = int(major), int(minor)

    def tracing(batch: int, depth: int) -> Trace:
        return trace_foreign(factory, build_of_batch(batch), limits, capability)

    return TracedLine(
        Line(processors=limits.processors) if line is None else line,
        tracing,
        depth=1,
        is_captured=False,
        first_fit=FIT_BATCHES[0],
        input_bytes=lambda batch: 0,
    )


def line_of(key: ForeignKey, line: Line) -> TracedLine:
    """The line of a workload that is known by name. line: what is known of it already, added to.

    Raises: UserInputError where the workload cannot be loaded, or is no factory.
    """
    factory, (major, _, minor) = _factory(key), key.capability.partition(".")

    spec, axes = known_spec(key.workload), dict(key.axes)
    parts = int(axes[spec.parts_axis]) if spec is not None and spec.parts_axis is not None else 1

    def tracing(batch: int, depth: int) -> Trace:
        return trace_foreign(factory, _build(key, batch), key.limits, (int(major), int(minor)), parts)

    return TracedLine(
        line, tracing, depth=1, is_captured=False, first_fit=FIT_BATCHES[0], input_bytes=lambda batch: 0
    )


def count_parameters(key: ForeignKey) -> int:
    """Scalars of the parameters of a key's model, shared ones once."""
    training = make_training(_factory(key), _build(key, 1))
    return sum({id(p): p.numel() for module in training.modules for p in module.parameters()}.values())


def _factory(key: ForeignKey) -> Factory:
    factory = load_factory(key.workload)
    if factory is None:
        raise UserInputError(f"{key.workload}: expected a factory, got what is only run; it is not predicted")
    return factory


def _build(key: ForeignKey, batch: int) -> Build:
    return Build(model=key.model, batch_size=batch, axes=dict(key.axes), device=torch.device("meta"), seed=0)


def predict_training(
    factory: Factory,
    build_of_batch: Callable[[int], Build],
    profile: GpuProfile,
    cap_bytes: int | None,
    batch: int,
) -> TrainingForecast:
    """What a training of this batch takes.

    cap_bytes: what torch's allocator may reserve; None: no cap.
    Raises: NotTraceable where it cannot be followed: then there is no forecast.
    """
    line = training_line(factory, build_of_batch, profile)
    question = Question(batch_size=batch, cap_bytes=cap_bytes, workspaces=profile.workspaces())
    answer = line.ask(question)
    reserved = answer.reserved_bytes
    return TrainingForecast(
        batch_size=batch,
        answer=answer,
        peak_bytes=None if reserved is None else reserved + profile.outside_bytes,
    )


def largest_batch(
    line: TracedLine, batches: range | Sequence[int], profile: GpuProfile, cap_bytes: int
) -> int:
    """The largest of the allowed batches that fits under a cap, 0 where none does.

    Raises: NotTraceable.
    """
    ladder = Ladder(
        batches=batches if isinstance(batches, range) else tuple(batches),
        cap_bytes=cap_bytes,
        spare_cap_bytes=cap_bytes,
        own_cap_bytes=cap_bytes,
        workspaces=profile.workspaces(),
    )
    return line.climb(ladder).largest
