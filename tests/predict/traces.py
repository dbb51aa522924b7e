"""Traces of small models for the tests, and how two are compared."""

from __future__ import annotations

from typing import Any

from phase8_tune.kernels.versions import KERNEL_VERSIONS
from phase8_tune.phase8.config import Phase8Config
from phase8_tune.phase8.model import Checkpointing
from phase8_tune.phase8.optimizer import MasterWeights, OptimizerState
from phase8_tune.phase8.training import TrainingOptions
from phase8_tune.tuner.builtin.phase8.tracing import trace_training
from phase8_tune.tuner.predict.fit.line import Line, Tracing, fit_line
from phase8_tune.tuner.predict.trace.events import FREE, Trace
from phase8_tune.tuner.predict.trace.limits import Limits
from phase8_tune.tuner.values.candidate import Mode

LIMITS = Limits(shared_memory_bytes=101_376, multiprocessors=48, threads_per_multiprocessor=1536)
CONFIG = Phase8Config(d_model=64, n_layers=3, n_heads=2, n_seq=80, htt_rank=4, vocab_size=1000)
VERSIONS = KERNEL_VERSIONS


def traced(
    version: str = "reference",
    *,
    checkpointing: Checkpointing = "none",
    precision: Any = "bf16",
    mode: Mode = "train",
    batch: int = 2,
    depth: int = 3,
    steps: int = 1,
    config: Phase8Config = CONFIG,
    optimizer_state: OptimizerState = "fp32",
    master_weights: MasterWeights = "fp32",
) -> Trace:
    options = TrainingOptions(
        kernel_version=version,
        gradient_checkpointing=checkpointing,
        mixed_precision=precision,
        optimizer_state=optimizer_state,
        master_weights=master_weights,
    )
    return trace_training(
        config, options, batch_size=batch, limits=LIMITS, mode=mode, depth=depth, steps=steps
    )


def trace_line(tracing: Tracing, depth: int) -> Line:
    """The line of a model from its traces at FIT_BATCHES."""
    line = Line(processors=LIMITS.processors)
    fit_line(line, tracing, depth)
    return line


def canonical(trace: Trace) -> list[list[tuple[Any, ...]]]:
    """Events with slots numbered as they come, so that two traces can be equal."""
    numbers: dict[int, int] = {}
    parts = []
    for part in trace.parts():
        events = []
        for event in part:
            if event.size_bytes != FREE:
                numbers[event.slot] = len(numbers)
            category = trace.categories[event.slot]
            events.append((numbers[event.slot], event.size_bytes, event.op, event.phase, category))
        parts.append(events)
    return parts


def live_peak(trace: Trace) -> int:
    """The largest sum of unrounded live bytes."""
    live: dict[int, int] = {}
    peak = 0
    for part in trace.parts():
        for event in part:
            if event.size_bytes == FREE:
                del live[event.slot]
            else:
                live[event.slot] = max(event.size_bytes, 0)
                peak = max(peak, sum(live.values()))
    return peak
