"""Replays a traced model's events through the simulated allocator: peaks, what they are made of, what fits.

An eager version takes its steps on one stream, until one needs no new segment, and evaluates there. A
captured one takes its first steps on a side stream, gives the cache back, captures one into a pool of its own
and evaluates in that pool (`phase8/capture.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..fit.depth import DeepPart, Ints, deepen
from ..fit.line import Structure
from ..trace.events import CATEGORIES, FREE, WORKSPACE, Category, Event, Phase, Workspaces
from .address_space import AscendingAddresses
from .allocator import (
    DEFAULT_STREAM,
    GRAPH_POOL,
    MIN_BLOCK_BYTES,
    SIDE_STREAM,
    Block,
    CachingAllocator,
    OutOfMemoryError,
)

CAPTURE_AFTER = 3
"""Eager calls before a capture, `phase8.capture.EAGER_CALLS`; a test holds them equal."""
_MOST_REPEATS = 6
"""Eager steps after the first at most, and evaluations. None of 31 recorded runs took a segment after its
fourth step; but at a cap that the cache is given back for, every step asks anew."""
_LIBRARY_BYTES = 64 << 20
"""What the driver takes at the first matrix product, as the holes between segments say (`address_space`)."""
_STREAMS, _STREAM_BYTES = 32, 2 << 20
"""PyTorch makes so many streams when the first is asked for (c10/cuda/CUDAStream.cpp); each takes as much."""
_RANDOM_STATE_BYTES = 8
_OUTPUT_BYTES = 4  # the loss that a captured step returns, and an evaluation beside it


@dataclass(frozen=True, kw_only=True, slots=True)
class Peaks:
    """What one candidate takes of torch's allocator, under a cap or under none.

    by_category: live bytes at the allocated peak; `peak_op`, `peak_phase`: the allocation that made it.
    reserved_bytes: None where it did not fit.
    """

    allocated_bytes: int
    reserved_bytes: int | None
    by_category: dict[Category, int]
    peak_op: str
    peak_phase: Phase
    retries: int

    @property
    def fits(self) -> bool:
        return self.reserved_bytes is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """Events as columns. sizes: index of the size in `_exact`; of: that of the slot's allocation."""

    slots: list[int]
    sizes: list[int]
    of: Ints
    signs: Ints
    categories: Ints
    sources: Ints
    events: Sequence[Event]


class Program:
    """The events of a whole model, ready to be replayed for any batch of its structure."""

    def __init__(self, structure: Structure, *, is_captured: bool) -> None:
        """Raises: NotRepeatableError where the traced blocks cannot stand for the whole model."""
        self.structure = structure
        self.is_captured = is_captured
        trace = structure.trace
        size_of = np.zeros(len(trace.categories), dtype=np.int64)
        for part in trace.parts():
            for event in part:
                if event.size_bytes != FREE:
                    size_of[event.slot] = event.size_bytes
        codes = {category: number for number, category in enumerate(CATEGORIES)}
        categories = np.array([codes[category] for category in trace.categories], dtype=np.int64)
        self.parts = [
            self._columns(events, deep, size_of, categories)
            for events, deep in zip(trace.parts(), deepen(trace, structure.depth), strict=True)
        ]
        sizes = self.parts[1].sizes
        self._first_product = sizes.index(WORKSPACE) if WORKSPACE in sizes else len(sizes)

    @staticmethod
    def _columns(events: Sequence[Event], deep: DeepPart, size_of: Ints, categories: Ints) -> _Part:
        slots = np.array([event.slot for event in events], dtype=np.int64)
        sizes = np.array([event.size_bytes for event in events], dtype=np.int64)
        return _Part(
            slots=deep.slots.tolist(),
            sizes=sizes[deep.sources].tolist(),
            of=size_of[slots][deep.sources],
            signs=np.where(sizes == FREE, -1, 1)[deep.sources],
            categories=categories[slots][deep.sources],
            sources=deep.sources,
            events=events,
        )

    def live(self, sizes: Sequence[int], workspaces: Workspaces) -> Peaks:
        """The largest sum of live blocks: never more than what the allocator counts as allocated."""
        table = _exact(sizes, workspaces)
        table = -(-table // MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES
        changes = np.concatenate([part.signs * table[part.of] for part in self.parts])
        running = np.cumsum(changes)
        peak = int(np.argmax(running))
        categories = np.concatenate([part.categories for part in self.parts])[: peak + 1]
        sums = np.bincount(categories, weights=changes[: peak + 1], minlength=len(CATEGORIES))
        event = self._event(peak)
        return Peaks(
            allocated_bytes=int(running[peak]),
            reserved_bytes=None,
            by_category={category: int(value) for category, value in zip(CATEGORIES, sums, strict=True)},
            peak_op=event.op,
            peak_phase=event.phase,
            retries=0,
        )

    def _event(self, index: int) -> Event:
        for part in self.parts:
            if index < len(part.slots):
                return part.events[int(part.sources[index])]
            index -= len(part.slots)
        raise IndexError(index)

    def replay(
        self,
        sizes: Sequence[int],
        *,
        workspaces: Workspaces,
        cap_bytes: int | None = None,
        input_bytes: int = 0,
        is_ascending: bool = False,
    ) -> Peaks:
        """Peaks under a cap on what torch reserves.

        sizes: of the whole model, `Structure.whole`. input_bytes: of the batch, which a capture copies.
        is_ascending: every segment lies above the last, not as in a new process.
        """
        live = self.live(sizes, workspaces)
        allocator = CachingAllocator(cap_bytes, AscendingAddresses() if is_ascending else None)
        try:
            self._run(allocator, _exact(sizes, workspaces).tolist(), input_bytes)
        except OutOfMemoryError:
            return replace(live, retries=allocator.retries)
        return replace(
            live,
            allocated_bytes=allocator.peak_allocated_bytes,
            reserved_bytes=allocator.peak_reserved_bytes,
            retries=allocator.retries,
        )

    def _run(self, allocator: CachingAllocator, table: list[int], input_bytes: int) -> None:
        setup, first, repeat, evaluation = self.parts
        play = _Player(allocator, table).play
        play(setup, DEFAULT_STREAM)
        if self.is_captured:
            for _ in range(_STREAMS):
                allocator.take_for_driver(_STREAM_BYTES)
        stream = SIDE_STREAM if self.is_captured else DEFAULT_STREAM
        play(first, stream, stop=self._first_product)
        allocator.take_for_driver(_LIBRARY_BYTES)
        play(first, stream, start=self._first_product)
        if not self.is_captured:
            _until_nothing_new(allocator, lambda: play(repeat, DEFAULT_STREAM))
            # Where an evaluation took new segments, the steps after it find memory cut otherwise.
            _until_nothing_new(
                allocator, lambda: play(evaluation, DEFAULT_STREAM), lambda: play(repeat, DEFAULT_STREAM)
            )
            return
        for _ in range(CAPTURE_AFTER - 1):
            play(repeat, SIDE_STREAM)
        allocator.allocate(input_bytes, DEFAULT_STREAM)
        allocator.empty_cache()
        for _ in range(2):  # seed and offset of the random numbers, for the graph
            allocator.allocate(_RANDOM_STATE_BYTES, SIDE_STREAM)
        play(repeat, GRAPH_POOL)
        allocator.allocate(_OUTPUT_BYTES, GRAPH_POOL)
        allocator.allocate(_OUTPUT_BYTES, DEFAULT_STREAM)
        if evaluation.slots:
            allocator.allocate(_OUTPUT_BYTES, DEFAULT_STREAM)
            _until_nothing_new(allocator, lambda: play(evaluation, GRAPH_POOL))


def _until_nothing_new(
    allocator: CachingAllocator, act: Callable[[], None], then: Callable[[], None] = lambda: None
) -> None:
    """Act until that takes no new segment: memory then lies as before, and all that follows is alike.

    then: what comes after an act that took one.
    """
    for _ in range(_MOST_REPEATS):
        before = allocator.segments
        act()
        if allocator.segments == before:
            return
        then()


def _exact(sizes: Sequence[int], workspaces: Workspaces) -> Ints:
    """Sizes by index: LT_WORKSPACE, WORKSPACE and FREE count from the end."""
    return np.array([*sizes, workspaces.blaslt_bytes, workspaces.blas_bytes, 0], dtype=np.int64)


class _Player:
    """Plays parts on one allocator; slots are shared between parts."""

    def __init__(self, allocator: CachingAllocator, table: list[int]) -> None:
        self._allocator = allocator
        self._table = table
        self._blocks: dict[int, Block | None] = {}

    def play(self, part: _Part, stream: int, *, start: int = 0, stop: int | None = None) -> None:
        """The events of a part from one to another."""
        allocate, free = self._allocator.allocate, self._allocator.free
        blocks, table = self._blocks, self._table
        for slot, size in zip(part.slots[start:stop], part.sizes[start:stop], strict=True):
            if size == FREE:
                free(blocks.pop(slot))
            else:
                blocks[slot] = allocate(table[size], stream)
