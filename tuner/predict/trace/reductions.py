"""What a reduction on CUDA takes beside its input and output where several blocks of threads share it.

A sum, a mean or a norm over many values with few results is cut into parts, one a block of threads: each
block writes its part into a buffer and counts itself done in a semaphore, and both are freed when the
operation ends. Say that 2^20 contiguous float32 are summed to one number on an H100 (132 multiprocessors of
2,048 threads). A block has 512 threads, so each would add 2,048 values, one after the other, while the GPU
has room for 528 such blocks. 128 of them share the work, as each thread then still has 16 values: 128 parts
of 4 bytes and a semaphore of 4 are held meanwhile.

Whether a reduction is cut, and into how many parts, follows from shapes, strides, dtypes and the GPU, in
steps: no straight line in the batch. So a trace notes the reduction, and sizes are worked out for each batch.

Source: pytorch, aten/src/ATen/native/cuda/Reduce.cuh (setReduceConfig, ReduceConfig, gpu_reduce_kernel) and
aten/src/ATen/TensorIterator.cpp (reorder_dimensions, coalesce_dimensions, with_32bit_indexing), as of 2.11.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

_MAX_THREADS = 512
_WARP = 32
_VECTOR = 4
_MIN_VALUES_A_THREAD, _MAX_VALUES_A_THREAD = 16, 256
_MIN_VECTORISED = 128
_INT32_MAX = (1 << 31) - 1
_SEMAPHORE_BYTES = 4


class Reduction(NamedTuple):
    """A reduction of a tensor with one result a group, all over the dimensions in `reduced`.

    shape, strides: of the input, in elements; offset: its first element in its storage; item_bytes: of its
    elements; part_bytes: of what a thread keeps of the values it saw.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    reduced: tuple[int, ...]
    item_bytes: int
    part_bytes: int


class Processors(NamedTuple):
    """What of a GPU decides how a reduction is cut."""

    multiprocessors: int
    threads_per_multiprocessor: int


class Scratch(NamedTuple):
    """Bytes that a reduction holds while it runs; zeros where it is not cut."""

    parts_bytes: int
    semaphore_bytes: int


@functools.lru_cache(maxsize=1 << 16)
def scratch_of(reduction: Reduction, processors: Processors) -> Scratch:
    """The scratch memory of one reduction on one GPU.

    What is too large for 32-bit offsets is reduced piece by piece: the largest piece's scratch counts.
    """
    return max(_scratch_of_piece(piece, reduction, processors) for piece in _pieces(_layout(reduction)))


class _Layout(NamedTuple):
    """Dimensions as the kernel goes through them: the fastest first, reduced ones before others.

    out: strides of the results, in elements, 0 along a reduced dimension. input: of the input, in bytes.
    """

    shape: tuple[int, ...]
    out: tuple[int, ...]
    input: tuple[int, ...]


def _layout(reduction: Reduction) -> _Layout:
    """The dimensions as TensorIterator orders and joins them."""
    shape, item = reduction.shape, reduction.item_bytes
    out = [0] * len(shape)
    stride = 1  # of the results: their order counts, not their size
    for dim in reversed(range(len(shape))):
        if dim not in reduction.reduced:
            out[dim] = stride if shape[dim] != 1 else 0
            stride *= shape[dim]
    given = [stride * item if size != 1 else 0 for size, stride in zip(shape, reduction.strides, strict=True)]
    dims = _ordered(shape, out, given)
    return _joined([shape[d] for d in dims], [out[d] for d in dims], [given[d] for d in dims])


def _ordered(shape: tuple[int, ...], out: list[int], given: list[int]) -> list[int]:
    """An insertion sort, as there: comparisons may be ambiguous, and then the given order stays."""

    def comes_after(first: int, second: int) -> int:
        if (out[first] == 0) != (out[second] == 0):
            return 1 if out[second] == 0 else -1
        for strides in (out, given):
            one, other = strides[first], strides[second]
            if one == 0 or other == 0:
                continue
            if one != other:
                return -1 if one < other else 1
            if shape[first] > shape[second]:
                return 1
        return 0

    dims = list(reversed(range(len(shape))))
    for index in range(1, len(dims)):
        moving = index
        for place in range(index - 1, -1, -1):
            order = comes_after(dims[place], dims[moving])
            if order > 0:
                dims[place], dims[moving] = dims[moving], dims[place]
                moving = place
            elif order < 0:
                break
    return dims


def _joined(shape: list[int], out: list[int], given: list[int]) -> _Layout:
    """Neighbouring dimensions that are one run in memory become one dimension."""
    if not shape:
        return _Layout((), (), ())
    last = 0
    for dim in range(1, len(shape)):
        is_run = shape[last] == 1 or shape[dim] == 1
        is_run = is_run or all(shape[last] * s[last] == s[dim] for s in (out, given))
        if is_run:
            if shape[last] == 1:
                out[last], given[last] = out[dim], given[dim]
            shape[last] *= shape[dim]
        else:
            last += 1
            shape[last], out[last], given[last] = shape[dim], out[dim], given[dim]
    return _Layout(tuple(shape[: last + 1]), tuple(out[: last + 1]), tuple(given[: last + 1]))


def _pieces(layout: _Layout) -> Iterator[_Layout]:
    """The layout itself, or its halves along the longest dimension until 32-bit offsets do."""
    extents = [
        tuple((size - 1) * stride for size, stride in zip(layout.shape, strides, strict=True))
        for strides in (layout.out, layout.input)
    ]
    reach = max(1 + sum(by_dimension) for by_dimension in extents)
    if math.prod(layout.shape) <= _INT32_MAX and reach <= _INT32_MAX:
        yield layout
        return
    longest = [max(both) for both in zip(*extents, strict=True)]
    dim = max(reversed(range(len(longest))), key=longest.__getitem__)
    half = layout.shape[dim] // 2
    for size in (half, layout.shape[dim] - half):
        yield from _pieces(layout._replace(shape=(*layout.shape[:dim], size, *layout.shape[dim + 1 :])))


def _scratch_of_piece(layout: _Layout, reduction: Reduction, processors: Processors) -> Scratch:
    """What blocks that share a result write, and what they count themselves in."""
    inputs = math.prod(size for size, stride in zip(layout.shape, layout.out, strict=True) if stride == 0)
    outputs = math.prod(size for size, stride in zip(layout.shape, layout.out, strict=True) if stride != 0)
    block = _block(layout, reduction, inputs, outputs)
    if _divided(inputs, block.x if block.is_along else 1) < min(block.y * 16, _MAX_VALUES_A_THREAD):
        return Scratch(0, 0)  # the warps of a block have results of their own
    values = _divided(inputs, block.x * block.y if block.is_along else block.y)  # of one thread
    grid = _divided(outputs // block.vector, 1 if block.is_along else block.x)
    room = processors.multiprocessors * (processors.threads_per_multiprocessor // (block.x * block.y))
    if values < _MAX_VALUES_A_THREAD or grid > room:
        return Scratch(0, 0)
    parts = max(
        min(_divided(room, grid), _divided(values, _MIN_VALUES_A_THREAD)),
        _divided(values, _MAX_VALUES_A_THREAD),
    )
    if parts <= 1:
        return Scratch(0, 0)
    size = reduction.part_bytes * outputs * parts
    if not block.is_along:
        size *= block.x * block.vector
    return Scratch(size, _SEMAPHORE_BYTES * grid)


class _Block(NamedTuple):
    """A block of threads: x of them side by side in memory, in y rows.

    is_along: whether those side by side have values of one result, else neighbouring results. vector: results
    of one thread.
    """

    x: int
    y: int
    is_along: bool
    vector: int


def _block(layout: _Layout, reduction: Reduction, inputs: int, outputs: int) -> _Block:
    """The block for so many values a result, and so many results."""
    reduced_dims = sum(stride == 0 for stride in layout.out)
    is_along = reduced_dims == len(layout.shape) or layout.input[0] < layout.input[reduced_dims]
    fastest = 0 if is_along else reduced_dims
    is_contiguous = not layout.shape or layout.input[fastest] == reduction.item_bytes
    width, height = (inputs, outputs) if is_along else (outputs, inputs)
    vector = 1
    if is_contiguous and is_along and width >= _MIN_VECTORISED and reduced_dims == 1:
        width //= _VECTOR
    elif is_contiguous and not is_along:
        vector = _results_a_thread(layout, reduction, fastest)
        width //= vector
    threads = _MAX_THREADS // vector
    width, height = (_power_of_two(size) if size < threads else threads for size in (width, height))
    y = min(height, threads // min(width, _WARP))
    return _Block(min(width, threads // y), y, is_along, vector)


def _results_a_thread(layout: _Layout, reduction: Reduction, fastest: int) -> int:
    """How many neighbouring results a thread can load values for at once."""
    others = [stride // reduction.item_bytes for d, stride in enumerate(layout.input) if d != fastest]
    vector = _VECTOR
    for count in (reduction.offset, layout.shape[fastest], *others):
        while count % vector:
            vector //= 2
    return vector


def _power_of_two(count: int) -> int:
    """The largest one that is not above; 1 for 0."""
    return 1 << max(count.bit_length() - 1, 0)


def _divided(count: int, parts: int) -> int:
    return -(-count // parts)
