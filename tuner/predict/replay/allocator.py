"""PyTorch's caching allocator for CUDA, simulated: what it reserves for a sequence of allocations and frees.

Sizes are rounded up to 512 bytes. Up to 1 MiB they are cut from segments of 2 MiB; above, below 10 MiB, from
segments of 20 MiB; larger ones get a segment of their own, rounded up to 2 MiB. A request takes the smallest
free block that is large enough (of equal ones that with the lowest address) and is cut off it where the rest
is worth keeping: 512 bytes in small segments, more than 1 MiB in large ones. Freed blocks merge with free
neighbours. Every stream has its pools, and so has a captured graph.

Under a cap (`set_per_process_memory_fraction`) a segment that would pass it makes the allocator give back all
segments without a live block, of every stream, and try once more; during a capture it does not even try.

Source: pytorch, c10/cuda/CUDACachingAllocator.cpp (round_size, get_allocation_size, get_free_block,
should_split, try_merge_blocks, alloc_block, release_cached_blocks) and c10/core/AllocatorConfig.h, as of
2.11–2.13, with expandable segments off and no other setting. Where new segments lie: `address_space`.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from .address_space import AddressSpace, AscendingAddresses

MIB = 1 << 20
MIN_BLOCK_BYTES = 512
SMALL_BYTES = MIB
SMALL_SEGMENT_BYTES = 2 * MIB
LARGE_SEGMENT_BYTES = 20 * MIB
MIN_OWN_SEGMENT_BYTES = 10 * MIB
SEGMENT_ROUNDING_BYTES = 2 * MIB

DEFAULT_STREAM, SIDE_STREAM, GRAPH_POOL = 0, 1, 2
"""Where a request is served from: a stream's pools, or those of the captured graph."""


class OutOfMemoryError(Exception):
    """The simulated allocator could not serve a request under its cap."""

    def __init__(self, requested_bytes: int) -> None:
        super().__init__(f"{requested_bytes} bytes do not fit under the cap")
        self.requested_bytes = requested_bytes


class Block:
    """A piece of a segment. `left` and `right` are its neighbours there, None at the segment's ends."""

    __slots__ = ("address", "is_free", "left", "pool", "right", "size")

    def __init__(self, address: int, size: int, pool: Pool) -> None:
        self.address = address
        self.size = size
        self.pool = pool
        self.is_free = False
        self.left: Block | None = None
        self.right: Block | None = None


class Pool:
    """Free blocks of one kind (small or large) on one stream, by size and then address."""

    __slots__ = ("blocks", "is_small", "keys", "stream")

    def __init__(self, *, is_small: bool, stream: int) -> None:
        self.is_small = is_small
        self.stream = stream
        self.keys: list[tuple[int, int]] = []
        self.blocks: dict[int, Block] = {}

    def put(self, block: Block) -> None:
        block.is_free = True
        insort(self.keys, (block.size, block.address))
        self.blocks[block.address] = block

    def remove(self, block: Block) -> None:
        del self.keys[bisect_left(self.keys, (block.size, block.address))]
        del self.blocks[block.address]
        block.is_free = False

    def take(self, size: int) -> Block | None:
        """The smallest free block of at least `size` bytes, no longer free."""
        index = bisect_left(self.keys, (size, 0))
        if index == len(self.keys):
            return None
        block = self.blocks.pop(self.keys.pop(index)[1])
        block.is_free = False
        return block


def rounded(size_bytes: int) -> int:
    """Bytes of the block that a request is rounded up to."""
    return max(MIN_BLOCK_BYTES, -(-size_bytes // MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES)


def segment_bytes(block_bytes: int) -> int:
    """Bytes of the segment that is asked of the driver for a block of this (rounded) size."""
    if block_bytes <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if block_bytes < MIN_OWN_SEGMENT_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-block_bytes // SEGMENT_ROUNDING_BYTES) * SEGMENT_ROUNDING_BYTES


class CachingAllocator:
    """One process's allocator on one GPU. cap_bytes: None for no cap. addresses: None for a new process's.

    Counters are torch's: `allocated_bytes` sums whole blocks (memory_allocated), `reserved_bytes` segments
    (memory_reserved); `retries` counts how often the cache was given back for want of memory, `segments` how
    many were asked of the driver.
    """

    def __init__(self, cap_bytes: int | None = None, addresses: AscendingAddresses | None = None) -> None:
        self.cap_bytes = cap_bytes
        self.allocated_bytes = self.reserved_bytes = 0
        self.peak_allocated_bytes = self.peak_reserved_bytes = 0
        self.retries = self.segments = 0
        self._pools: dict[tuple[int, bool], Pool] = {}
        self._addresses = addresses or AddressSpace()

    def allocate(self, size_bytes: int, stream: int = DEFAULT_STREAM) -> Block | None:
        """A block for `size_bytes`; None for 0 bytes, which torch does not allocate.

        Raises: OutOfMemoryError.
        """
        if size_bytes == 0:
            return None
        size = rounded(size_bytes)
        pool = self._pool(stream, is_small=size <= SMALL_BYTES)
        block = pool.take(size) or self._new_segment(size, pool)
        rest = block.size - size
        if rest >= MIN_BLOCK_BYTES if pool.is_small else rest > SMALL_BYTES:
            self._split(block, size)
        self.allocated_bytes += block.size
        if self.allocated_bytes > self.peak_allocated_bytes:
            self.peak_allocated_bytes = self.allocated_bytes
        return block

    def free(self, block: Block | None) -> None:
        """Give a block back to its pool, merged with free neighbours."""
        if block is None:
            return
        self.allocated_bytes -= block.size
        pool, left, right = block.pool, block.left, block.right
        if left is not None and left.is_free:
            pool.remove(left)
            left.size += block.size
            left.right = right
            if right is not None:
                right.left = left
            block = left
        if right is not None and right.is_free:
            pool.remove(right)
            block.size += right.size
            block.right = right.right
            if right.right is not None:
                right.right.left = block
        pool.put(block)

    def empty_cache(self) -> None:
        """Give back every segment that has no live block, but for those of a captured graph."""
        for pool in self._pools.values():
            if pool.stream == GRAPH_POOL:
                continue
            for block in list(pool.blocks.values()):
                if block.left is None and block.right is None:
                    pool.remove(block)
                    self._addresses.give_back(block.address, block.size)
                    self.reserved_bytes -= block.size

    def take_for_driver(self, size_bytes: int) -> None:
        """Address space that the driver takes for itself, for good."""
        self._addresses.take(size_bytes)

    def _pool(self, stream: int, *, is_small: bool) -> Pool:
        pool = self._pools.get((stream, is_small))
        if pool is None:
            pool = self._pools[stream, is_small] = Pool(is_small=is_small, stream=stream)
        return pool

    def _new_segment(self, size: int, pool: Pool) -> Block:
        segment = segment_bytes(size)
        if self.cap_bytes is not None and self.reserved_bytes + segment > self.cap_bytes:
            if pool.stream != GRAPH_POOL:
                self.retries += 1
                self.empty_cache()
            if self.reserved_bytes + segment > self.cap_bytes:
                raise OutOfMemoryError(size)
        self.segments += 1
        self.reserved_bytes += segment
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        return Block(self._addresses.take(segment), segment, pool)

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.address + size, block.size - size, block.pool)
        rest.left, rest.right = block, block.right
        if block.right is not None:
            block.right.left = rest
        block.size, block.right = size, rest
        block.pool.put(rest)
