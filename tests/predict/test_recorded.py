"""The trace without a GPU against events recorded on a real one (benchmarks/prediction.py --record).

Traced with a PyTorch that frees in the recording's order, every event agrees with it, one after the other.
In one point versions of PyTorch differ: when a backward function written in Python returns, 2.11 and 2.12
free the gradients that were handed to it from the last to the first, 2.13 from the first to the last
(PyTorch's profiler shows it of 2.11 and 2.13 without the tracer and without a GPU). The BK scan and the fork
at the in-projection are such functions, with two gradients: one pair of neighbouring frees is exchanged for
each, and nothing else. So the bytes in use at every allocation agree with any version, and the replays agree
to the byte.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from phase8_tune.phase8.training import TrainingOptions
from phase8_tune.tuner.predict.events import FREE, Event, Phase, Trace
from phase8_tune.tuner.predict.fit import Line, add_trace
from phase8_tune.tuner.predict.replay import Peaks, Program
from phase8_tune.tuner.predict.stepping import Limits, trace_training

from .traces import CONFIG, canonical

RECORDED = Path(__file__).parent / "data" / "steps_on_cuda.json.gz"
PYTHON_BACKWARDS = 2 * CONFIG.n_layers + 1  # a BK scan and a fork a block, a BK scan of the head side
BATCH = 2
WORKSPACE_BYTES = 32 << 20  # cuBLAS on the GPU that recorded, compute capability 9.0
Row = tuple[int, int, str, Phase]
"""Slot, bytes, operation and phase of an event."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Three parts (setup, first and second step) as traced here and as recorded on the GPU."""

    ours: list[list[Row]]
    theirs: list[list[Row]]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return loaded


@pytest.fixture(scope="module", params=["reference", "v2"])
def case(request, recorded) -> Case:
    version = request.param
    theirs = recorded["cases"][version]
    options = TrainingOptions(
        kernel_version=version,
        gradient_checkpointing=theirs["gradient_checkpointing"],
        mixed_precision=theirs["mixed_precision"],
    )
    limits = Limits(
        shared_memory_bytes=recorded["shared_memory_bytes"], multiprocessors=recorded["multiprocessors"]
    )
    trace = trace_training(CONFIG, options, batch_size=BATCH, limits=limits)
    return Case(
        ours=[[row[:4] for row in part] for part in canonical(trace)],
        theirs=[[(slot, size, op, phase) for slot, size, op, phase in part] for part in theirs["parts"]],
    )


def frees_last_first(torch_version: str) -> bool:
    """The order in which a PyTorch frees the gradients handed to a Python backward function."""
    major, minor = map(int, torch_version.split(".")[:2])
    return (major, minor) < (2, 13)


def exchanged(ours: list[Row], theirs: list[Row]) -> list[tuple[Row, Row]]:
    """Neighbours that come in the other order; fails on any other difference."""
    assert len(ours) == len(theirs)
    pairs = []
    index = 0
    while index < len(ours):
        if ours[index] == theirs[index]:
            index += 1
            continue
        assert ours[index : index + 2] == theirs[index : index + 2][::-1], f"event {index}"
        pairs.append((ours[index], ours[index + 1]))
        index += 2
    return pairs


def live_at_allocations(parts: list[list[Row]]) -> list[int]:
    """Bytes in use after every allocation, workspaces left out."""
    sizes: dict[int, int] = {}
    live = []
    for slot, size, _, _ in (row for part in parts for row in part):
        if size == FREE:
            del sizes[slot]
        else:
            sizes[slot] = max(size, 0)
            live.append(sum(sizes.values()))
    return live


def replayed(parts: list[list[Row]], *, scale: int, is_captured: bool) -> Peaks:
    """Peaks of the events with all sizes multiplied, so that large segments come into play too."""
    setup, first, repeat = (
        [Event(slot, size * scale if size > 0 else size, op, phase, 0) for slot, size, op, phase in part]
        for part in parts
    )
    slots = 1 + max(event.slot for event in (*setup, *first, *repeat))
    trace = Trace(
        depth=CONFIG.n_layers,
        setup=setup,
        first=first,
        repeat=repeat,
        categories=["activations"] * slots,
    )
    line = Line()
    sizes = add_trace(line, BATCH, trace, CONFIG.n_layers).sizes
    return Program(line.structures[0], is_captured=is_captured).replay(sizes, workspace_bytes=WORKSPACE_BYTES)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["setup", "first step", "second step"])
def test_traced_events_are_those_of_the_gpu(case, recorded, part):
    """All events in order, but for a pair of frees a Python backward where PyTorch's own order is another."""
    pairs = exchanged(case.ours[part], case.theirs[part])
    is_same = frees_last_first(torch.__version__) == frees_last_first(recorded["environment"]["torch"])
    assert len(pairs) == (0 if is_same or part == 0 else PYTHON_BACKWARDS)
    assert all(size == FREE and phase == "backward" for pair in pairs for _, size, _, phase in pair)


def test_live_bytes_at_every_allocation_are_those_of_the_gpu(case):
    ours, theirs = live_at_allocations(case.ours), live_at_allocations(case.theirs)
    assert ours == theirs
    assert max(ours) > 0


@pytest.mark.parametrize("is_captured", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("scale", [1, 64, 1024])
def test_replayed_peaks_are_those_of_the_gpu(case, scale, is_captured):
    """Measured: no byte between them, allocated or reserved."""
    ours, theirs = (replayed(p, scale=scale, is_captured=is_captured) for p in (case.ours, case.theirs))
    assert ours == theirs
    assert ours.reserved_bytes is not None
    assert ours.reserved_bytes >= ours.allocated_bytes > WORKSPACE_BYTES
