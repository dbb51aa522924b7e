"""The simulated caching allocator: cases worked by hand, and what must hold of every sequence."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phase8_tune.tuner.predict.replay.allocator import (
    DEFAULT_STREAM,
    GRAPH_POOL,
    MIB,
    SIDE_STREAM,
    Block,
    CachingAllocator,
    OutOfMemoryError,
    rounded,
    segment_bytes,
)


def take(allocator: CachingAllocator, size_bytes: int, stream: int = DEFAULT_STREAM) -> Block:
    block = allocator.allocate(size_bytes, stream)
    assert block is not None
    return block


@pytest.mark.parametrize(
    ("requested", "block", "segment"),
    [
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (11 * MIB + 1, 11 * MIB + 512, 12 * MIB),
    ],
)
def test_sizes(requested, block, segment):
    assert rounded(requested) == block
    assert segment_bytes(block) == segment


def test_small_requests_share_a_segment():
    allocator = CachingAllocator()
    blocks = [take(allocator, MIB) for _ in range(3)]
    assert allocator.reserved_bytes == 4 * MIB
    assert allocator.allocated_bytes == 3 * MIB
    assert blocks[1].address == blocks[0].address + MIB


def test_large_block_keeps_a_rest_of_up_to_one_mib():
    """9 and 10 MiB of a 20 MiB segment: the rest of 1 MiB is not worth a block and counts as allocated."""
    allocator = CachingAllocator()
    take(allocator, 9 * MIB)
    second = take(allocator, 10 * MIB)
    assert second.size == 11 * MIB
    assert allocator.reserved_bytes == allocator.allocated_bytes == 20 * MIB
    split = CachingAllocator()
    take(split, 9 * MIB)
    assert take(split, 10 * MIB - 512).size == 10 * MIB - 512


def test_smallest_block_that_is_large_enough():
    allocator = CachingAllocator()
    large, keep, small = (take(allocator, size * MIB) for size in (40, 12, 30))
    allocator.free(large)
    allocator.free(small)
    taken = take(allocator, 29 * MIB + 1)
    assert taken.address == small.address
    assert allocator.reserved_bytes == 82 * MIB
    assert keep.size == 12 * MIB


def test_freed_neighbours_merge():
    allocator = CachingAllocator()
    blocks = [take(allocator, 4 * MIB) for _ in range(5)]
    for index in (1, 3, 2):
        allocator.free(blocks[index])
    assert take(allocator, 12 * MIB).address == blocks[1].address
    assert allocator.reserved_bytes == 20 * MIB


def test_streams_do_not_share_blocks():
    allocator = CachingAllocator()
    allocator.free(take(allocator, 30 * MIB, DEFAULT_STREAM))
    take(allocator, 30 * MIB, SIDE_STREAM)
    assert allocator.reserved_bytes == 60 * MIB


def test_at_the_cap_the_cache_is_given_back_and_tried_again():
    allocator = CachingAllocator(cap_bytes=100 * MIB)
    allocator.free(take(allocator, 60 * MIB))
    held = take(allocator, 30 * MIB, SIDE_STREAM)
    take(allocator, 50 * MIB, SIDE_STREAM)
    assert allocator.retries == 1
    assert allocator.reserved_bytes == 80 * MIB
    assert held.size == 30 * MIB


def test_a_segment_with_a_live_block_is_not_given_back():
    allocator = CachingAllocator(cap_bytes=30 * MIB)
    kept = take(allocator, 4 * MIB)
    allocator.free(take(allocator, 4 * MIB))
    with pytest.raises(OutOfMemoryError):
        take(allocator, 24 * MIB)
    assert allocator.reserved_bytes == 20 * MIB
    allocator.free(kept)
    take(allocator, 24 * MIB)
    assert allocator.reserved_bytes == 24 * MIB


def test_no_retry_during_a_capture():
    allocator = CachingAllocator(cap_bytes=50 * MIB)
    allocator.free(take(allocator, 30 * MIB))
    with pytest.raises(OutOfMemoryError):
        take(allocator, 30 * MIB, GRAPH_POOL)
    allocator.empty_cache()
    allocator.free(take(allocator, 30 * MIB, GRAPH_POOL))
    allocator.empty_cache()
    assert allocator.reserved_bytes == 30 * MIB  # the graph keeps its pool


SIZES = st.one_of(
    st.integers(0, 4096), st.integers(1, 3 * MIB), st.integers(1, 40 * MIB), st.just(MIB), st.just(10 * MIB)
)
STEPS = st.lists(st.tuples(st.booleans(), SIZES, st.integers(0, 30), st.integers(0, 1)), max_size=60)


def _run(steps, allocator) -> list[tuple[int, Block]]:
    """Live (requested bytes, block) after the steps; a step frees the block it points at, or allocates."""
    live: list[tuple[int, Block]] = []
    for frees, size, index, stream in steps:
        if frees and live:
            allocator.free(live.pop(index % len(live))[1])
            continue
        block = allocator.allocate(size, stream)
        if block is not None:
            live.append((size, block))
        taken = sorted((b.address, b.size) for _, b in live)
        for (address, length), (following, _) in itertools.pairwise(taken):
            assert address + length <= following
        assert allocator.peak_allocated_bytes >= allocator.allocated_bytes
        assert allocator.allocated_bytes == sum(b.size for _, b in live)
    return live


def _free_bytes(allocator: CachingAllocator) -> int:
    return sum(size for pool in allocator._pools.values() for size, _ in pool.keys)


@settings(deadline=None, max_examples=150)
@given(STEPS)
def test_blocks_never_overlap_and_bytes_are_conserved(steps):
    allocator = CachingAllocator()
    live = _run(steps, allocator)
    assert all(block.size >= rounded(size) for size, block in live)
    assert allocator.allocated_bytes + _free_bytes(allocator) == allocator.reserved_bytes
    reserved = allocator.reserved_bytes
    for _, block in live:
        allocator.free(block)
    assert allocator.allocated_bytes == 0
    assert allocator.reserved_bytes == reserved
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


@settings(deadline=None, max_examples=80)
@given(STEPS, st.integers(1, 60))
def test_never_above_the_cap_and_unchanged_below_it(steps, cap_mib):
    free = CachingAllocator()
    _run(steps, free)
    capped = CachingAllocator(cap_bytes=cap_mib * MIB)
    try:
        _run(steps, capped)
    except OutOfMemoryError:
        assert free.peak_reserved_bytes > cap_mib * MIB
    else:
        assert capped.peak_allocated_bytes <= capped.peak_reserved_bytes
    assert capped.peak_reserved_bytes <= cap_mib * MIB
    if free.peak_reserved_bytes <= cap_mib * MIB:
        assert capped.peak_reserved_bytes == free.peak_reserved_bytes
        assert capped.retries == 0
