"""Predictions without a GPU against what torch's allocator did on a real one (benchmarks, --record).

The predicted events are those of the real way: lines of three blocks and three batches, repeated to the whole
depth, played on the schedule of eager and captured steps. Of every recorded run they are compared with the
allocator's own history, event by event.

In one point versions of PyTorch differ: when a backward function written in Python returns, 2.11 and 2.12
free the gradients that were handed to it from the last to the first, 2.13 from the first to the last. So with
another order than the recording's, frees that follow each other are compared as sets: nothing is allocated
between them, and what the allocator then has is the same.
"""

from __future__ import annotations

import gzip
import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from phase8_tune.benchmarks.allocator_history import Entry, encoded
from phase8_tune.kernels.versions import CAPTURED_VERSIONS
from phase8_tune.tuner.builtin.phase8.lines import tracing_of
from phase8_tune.tuner.machine.sources import sources_digest
from phase8_tune.tuner.predict.fit.line import Line, fit_line, trace_batch
from phase8_tune.tuner.predict.lines import line_under
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.replay import program as program_module
from phase8_tune.tuner.predict.replay.address_space import AddressSpace, AscendingAddresses
from phase8_tune.tuner.predict.replay.allocator import (
    DEFAULT_STREAM,
    GRAPH_POOL,
    MIB,
    SIDE_STREAM,
    Block,
    CachingAllocator,
    rounded,
)
from phase8_tune.tuner.predict.replay.program import Peaks, Program
from phase8_tune.tuner.predict.store import MODEL_ROOMS
from phase8_tune.tuner.predict.trace.limits import Limits
from phase8_tune.tuner.values.candidate import Candidate

RECORDED = Path(__file__).parent / "data" / "allocator_on_cuda.json.gz"
WORKSPACES = gpu_profile("h200").workspaces({})  # compute capability 9.0, as the recording's
OUTPUTS = 3  # events after a captured step: its loss, which is kept, and copies of it
GIVEN_BACK = 0
History = list[tuple[int, int]]
"""(bytes of the block, stream) of an allocation, (−its number − 1, 0) of a free, or (GIVEN_BACK, 0)."""


class Watched(CachingAllocator):
    """An allocator that writes down what it is asked for; `latest` is the one made last."""

    latest: Watched

    def __init__(self, cap_bytes: int | None = None, addresses: AscendingAddresses | None = None) -> None:
        super().__init__(cap_bytes, addresses)
        self.log: History = []
        self._count = 0
        self._number_at: dict[int, int] = {}
        Watched.latest = self

    def allocate(self, size_bytes: int, stream: int = DEFAULT_STREAM) -> Block | None:
        block = super().allocate(size_bytes, stream)
        if block is not None:
            self._number_at[block.address] = self._count
            self._count += 1
            self.log.append((rounded(size_bytes), stream))
        return block

    def free(self, block: Block | None) -> None:
        if block is not None:
            self.log.append((-self._number_at.pop(block.address) - 1, 0))
        super().free(block)

    def empty_cache(self) -> None:
        self.log.append((GIVEN_BACK, 0))
        super().empty_cache()


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One run as recorded and as predicted by the present sources."""

    recorded: dict[str, Any]
    is_captured: bool
    ends: tuple[int, ...]
    """Events up to the end of the first step, and of the second."""
    theirs: History
    ours: History
    predicted: Peaks


def history_of(recorded: dict[str, Any]) -> History:
    """A recorded history. What another stream takes once the cache was given back is the captured graph's,
    but for two small tensors: the state of its random numbers."""
    streams = [stream for stream, count in recorded["streams"] for _ in range(count)]
    history: History = []
    count = outside = 0
    pool = SIDE_STREAM
    for entry in recorded["history"]:
        if entry > 0:
            stream = pool if streams[count] else DEFAULT_STREAM
            if stream == GRAPH_POOL and outside < 2:
                stream, outside = SIDE_STREAM, outside + 1
            history.append((rounded(entry), stream))
            count += 1
        elif entry < 0:
            history.append((-(count + entry) - 1, 0))
        else:
            history.append((GIVEN_BACK, 0))
            pool = GRAPH_POOL
    return history


@pytest.fixture(scope="module")
def recording() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return loaded


NAMES = [
    Candidate.from_dict(case["candidate"]).describe()
    for case in json.loads(gzip.decompress(RECORDED.read_bytes()))["cases"]
]


@pytest.fixture(scope="module", params=range(len(NAMES)), ids=NAMES)
def case(request, recording) -> Case:
    recorded = recording["cases"][request.param]
    candidate = Candidate.from_dict(recorded["candidate"])
    limits = Limits(
        shared_memory_bytes=recording["shared_memory_bytes"],
        multiprocessors=recording["multiprocessors"],
        threads_per_multiprocessor=recording["threads_per_multiprocessor"],
    )
    key = line_under(candidate, limits)
    how = tracing_of(key)
    tracing, depth, batch = how.tracing, how.depth, candidate.batch_size
    line = Line(processors=key.limits.processors)
    fit_line(line, tracing, depth)
    sizes = line.at(batch)
    if sizes is None:
        sizes = trace_batch(line, batch, tracing, depth)
    structure = line.structures[sizes.structure]
    structure = replace(structure, trace=replace(structure.trace, evaluation=[]))  # recorded are steps alone
    program = Program(structure, is_captured=candidate.kernel_version in CAPTURED_VERSIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program_module, "CachingAllocator", Watched)
        whole, input_bytes = structure.whole(sizes.sizes), 8 * batch * (key.n_seq + 1)
        predicted = program.replay(whole, workspaces=WORKSPACES, input_bytes=input_bytes)
        ours = Watched.latest.log
        ends = []
        for later_steps in (0, 1):
            patch.setattr(program_module, "_MOST_REPEATS", later_steps)
            program.replay(whole, workspaces=WORKSPACES, input_bytes=input_bytes)
            ends.append(len(Watched.latest.log))
    return Case(
        recorded=recorded,
        is_captured=program.is_captured,
        ends=tuple(ends),
        theirs=history_of(recorded),
        ours=ours,
        predicted=predicted,
    )


def frees_last_first(torch_version: str) -> bool:
    """The order in which a PyTorch frees the gradients handed to a Python backward function."""
    major, minor = map(int, torch_version.split(".")[:2])
    return (major, minor) < (2, 13)


def in_any_order(history: History) -> History:
    """Frees that follow each other, sorted."""
    found: History = []
    for is_free, group in itertools.groupby(history, key=lambda event: event[0] < 0):
        events = list(group)
        found += sorted(events) if is_free else events
    return found


@pytest.fixture
def of_these_sources(recording) -> None:
    """Other kernels, or another model, allocate otherwise: what was recorded then says nothing of them."""
    if recording["model_sources"] != sources_digest(MODEL_ROOMS):
        pytest.skip(
            "recorded with other sources of the model; on a GPU: python -m phase8_tune.benchmarks.prediction "
            f"--record tests/predict/data/{RECORDED.name}"
        )


@pytest.mark.usefixtures("of_these_sources")
@pytest.mark.parametrize(
    "case",
    [n for n, name in enumerate(NAMES) if "reference" not in name],
    indirect=True,
    ids=NAMES.__getitem__,
)
def test_predicted_events_are_those_of_the_gpu(case, recording):
    """Every allocation's size, stream and place, and every free, of as many steps as both have: a replay ends
    where nothing new is taken. (Of the captured step's loss there are copies at the end: how many, the calls
    of the recording decide.)

    Not of the reference: what its complex arithmetic, sorts and index_put hold for a moment is known in part
    only. Its peaks are compared with the others'.
    """
    end = len(case.ours) - OUTPUTS if case.is_captured else min(len(case.ours), len(case.theirs))
    ours, theirs = case.ours[:end], case.theirs[:end]
    if frees_last_first(torch.__version__) != frees_last_first(recording["environment"]["torch"]):
        ours, theirs = in_any_order(ours), in_any_order(theirs)
    different = [n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    assert different == []
    assert len(ours) > 1000
    if not case.is_captured:
        first, second = case.ends
        later = second - first
        assert len(ours) >= second + later  # the last needs nothing new
        assert (len(ours) - second) % later == 0
        assert (len(case.theirs) - len(ours)) % later == 0


@pytest.mark.usefixtures("of_these_sources")
def test_predicted_peaks_are_those_of_the_gpu(case):
    """The bars of the whole prediction, for every run."""
    assert case.predicted.reserved_bytes is not None
    assert case.predicted.allocated_bytes == pytest.approx(case.recorded["allocated_bytes"], rel=0.01)
    assert case.predicted.reserved_bytes == pytest.approx(case.recorded["reserved_bytes"], rel=0.01)


def test_the_simulated_allocator_is_the_real_one(case, monkeypatch):
    """The recorded events with segments where they really were: both peaks to the byte."""
    addresses = iter(case.recorded["segments"])
    monkeypatch.setattr(AddressSpace, "take", lambda space, size_bytes: next(addresses) * MIB)
    monkeypatch.setattr(AddressSpace, "give_back", lambda space, address, size_bytes: None)
    allocator = CachingAllocator()
    blocks: list[Block | None] = []
    for size, stream in case.theirs:
        if size > 0:
            blocks.append(allocator.allocate(size, stream))
        elif size < 0:
            allocator.free(blocks[-size - 1])
        else:
            allocator.empty_cache()
    assert next(addresses, None) is None
    assert allocator.peak_allocated_bytes == case.recorded["allocated_bytes"]
    assert allocator.peak_reserved_bytes == case.recorded["reserved_bytes"]


def test_a_history_is_written_as_numbers():
    entries = [
        Entry("segment_alloc", 1 << 21, 2 << 20, 0),
        Entry("alloc", 1 << 21, 700, 0),
        Entry("alloc", (1 << 21) + 1024, 512, 7),
        Entry("free_requested", 1 << 21, 700, 0),
        Entry("free_completed", 1 << 21, 700, 0),
        Entry("segment_free", 1 << 23, 2 << 20, 0),
        Entry("segment_free", 1 << 24, 2 << 20, 7),
        Entry("free_completed", 1 << 25, 512, 0),  # older than the recording
        Entry("alloc", 1 << 21, 4, 7),
        Entry("free_completed", (1 << 21) + 1024, 512, 7),
    ]
    assert encoded(entries) == ([700, 512, -2, 0, 4, -2], [[0, 1], [1, 2]])
