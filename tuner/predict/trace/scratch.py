"""Memory that CUDA's implementations take inside one operation, where it is no straight line in the batch.

A trace notes what the size follows from; for another batch its numbers, which are straight, are worked out
first and the size then.
"""

from __future__ import annotations

from typing import NamedTuple

from .reductions import Processors, Reduction, scratch_of

_SMALL_SORT = 4096
_RADIX_DIGITS = 256
_SORT_TILE = 5376
"""Pairs that a block of threads sorts in one pass: read off measured sizes on compute capability 9.0 (other
architectures have other tiles, which makes some KiB)."""


class Sorting(NamedTuple):
    """A stable sort of `length` keys in one row with int64 indices beside them."""

    length: int
    key_bytes: int


class ScratchOf(NamedTuple):
    """One of the two buffers of an operation."""

    source: Reduction | Sorting
    buffer: int


def scratch_bytes(scratch: ScratchOf, processors: Processors) -> int:
    """Its size on a GPU; 0 where the operation does without."""
    source = scratch.source
    sizes = scratch_of(source, processors) if isinstance(source, Reduction) else _sorting_bytes(source)
    return sizes[scratch.buffer]


def numbers_of(source: Reduction | Sorting) -> tuple[int, ...]:
    """What of it changes with the batch."""
    if isinstance(source, Sorting):
        return (source.length,)
    return *source.shape, *source.strides, source.offset


def with_numbers(source: Reduction | Sorting, numbers: tuple[int, ...]) -> Reduction | Sorting:
    """The same operation at another batch."""
    if isinstance(source, Sorting):
        return source._replace(length=numbers[0])
    rank = len(source.shape)
    return source._replace(shape=numbers[:rank], strides=numbers[rank:-1], offset=numbers[-1])


def _sorting_bytes(sorting: Sorting) -> tuple[int, int]:
    """Indices to start from, and cub's radix sort: second keys and indices, the digits' counts of every pass
    and of every tile, each aligned to 256 bytes.

    Source: pytorch, aten/src/ATen/native/cuda/Sort.cpp (should_use_small_sort) and SortStable.cu.
    """
    indices = 8 * sorting.length
    if sorting.length <= _SMALL_SORT:
        return indices, 0
    tiles = -(-sorting.length // _SORT_TILE)
    buffers = (
        sorting.key_bytes * sorting.length,
        indices,
        8 * _RADIX_DIGITS * sorting.key_bytes,  # a pass a byte
        4 * _RADIX_DIGITS * tiles,
        4 * sorting.key_bytes,
    )
    return indices, sum(-(-size // 256) * 256 for size in buffers) + 255
