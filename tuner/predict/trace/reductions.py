"""What a reduction on CUDA takes beside its input and output where several blocks of threads share it.

A sum, a mean or a norm over many values with few results is cut into parts, one a block of threads: each
block writes its part into a buffer and counts itself done in a semaphore, and both are freed when the
operation ends. Whether it is cut, and into how many parts, follows from shapes, strides, dtypes and the GPU,
in steps: no straight line in the batch. So a trace notes the reduction, and the sizes are worked out for each
batch.

Source: pytorch, aten/src/ATen/native/cuda/Reduce.cuh (setReduceConfig, ReduceConfig, gpu_reduce_kernel) and
aten/src/ATen/TensorIterator.cpp (reorder_dimensions, coalesce_dimensions, with_32bit_indexing), as of 2.11.
"""

from __future__ import annotations

import functools
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


class _Layout(NamedTuple):
    """Dimensions, the fastest first, reduced ones before others; strides in bytes (of results: elements)."""

    shape: tuple[int, ...]
    out: tuple[int, ...]
    input: tuple[int, ...]


@functools.lru_cache(maxsize=1 << 16)
def scratch_of(reduction: Reduction, processors: Processors) -> Scratch:
    """The scratch memory of one reduction on one GPU.

    What is too large for 32-bit offsets is reduced piece by piece: the largest piece's scratch counts.
    """
    largest = Scratch(0, 0)
    for piece in _pieces(_layout(reduction)):
        largest = max(largest, _scratch_of_piece(piece, reduction, processors))
    return largest


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
    dims = _ordered(shape, out, given, set(reduction.reduced))
    return _joined([shape[d] for d in dims], [out[d] for d in dims], [given[d] for d in dims])


def _ordered(shape: tuple[int, ...], out: list[int], given: list[int], reduced: set[int]) -> list[int]:
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
        max((size - 1) * stride for stride in strides)
        for size, strides in zip(layout.shape, zip(layout.out, layout.input, strict=True), strict=True)
    ]
    count = 1
    for size in layout.shape:
        count *= size
    reach = max(
        1 + sum((size - 1) * stride for size, stride in zip(layout.shape, strides, strict=True))
        for strides in (layout.out, layout.input)
    )
    if count <= _INT32_MAX and reach <= _INT32_MAX:
        yield layout
        return
    dim = max(reversed(range(len(extents))), key=lambda d: extents[d])
    half = layout.shape[dim] // 2
    for size in (half, layout.shape[dim] - half):
        yield from _pieces(layout._replace(shape=(*layout.shape[:dim], size, *layout.shape[dim + 1 :])))


def _scratch_of_piece(layout: _Layout, reduction: Reduction, processors: Processors) -> Scratch:
    item = reduction.item_bytes
    inputs = outputs = 1
    for size, stride in zip(layout.shape, layout.out, strict=True):
        if stride == 0:
            inputs *= size
        else:
            outputs *= size
    reduced_dims = sum(stride == 0 for stride in layout.out)
    along = reduced_dims == len(layout.shape) or layout.input[0] < layout.input[reduced_dims]
    fastest = item if not layout.shape else layout.input[0 if along else reduced_dims]
    width, height = (inputs, outputs) if along else (outputs, inputs)
    vector = 1  # results of one thread
    if fastest == item:
        if along and width >= _MIN_VECTORISED and reduced_dims == 1:
            width //= _VECTOR
        elif not along:
            vector = _results_a_thread(layout, reduction, reduced_dims)
            width //= vector
    block_x, block_y = _block(width, height, _MAX_THREADS // vector)
    step_in, step_out = (block_x, 1) if along else (1, block_x)
    splits_over_warps = _divided(inputs, step_in) >= min(block_y * 16, _MAX_VALUES_A_THREAD)
    if not splits_over_warps:
        return Scratch(0, 0)
    step_in *= block_y
    values = _divided(inputs, step_in)
    target = processors.multiprocessors * (processors.threads_per_multiprocessor // (block_x * block_y))
    grid = _divided(outputs // vector, step_out)
    if values < _MAX_VALUES_A_THREAD or grid > target:
        return Scratch(0, 0)
    parts = max(
        min(_divided(target, grid), _divided(values, _MIN_VALUES_A_THREAD)),
        _divided(values, _MAX_VALUES_A_THREAD),
    )
    if parts <= 1:
        return Scratch(0, 0)
    size = reduction.part_bytes * outputs * parts
    return Scratch(size if along else size * block_x * vector, _SEMAPHORE_BYTES * grid)


def _results_a_thread(layout: _Layout, reduction: Reduction, fastest: int) -> int:
    """How many neighbouring results a thread can load values for at once."""
    others = [stride // reduction.item_bytes for d, stride in enumerate(layout.input) if d != fastest]
    vector = _VECTOR
    for count in (reduction.offset, layout.shape[fastest], *others):
        while count % vector:
            vector //= 2
    return vector


def _block(width: int, height: int, threads: int) -> tuple[int, int]:
    width, height = (_power_of_two(size) if size < threads else threads for size in (width, height))
    block_x = min(width, _WARP)
    block_y = min(height, threads // block_x)
    return min(width, threads // block_y), block_y


def _power_of_two(count: int) -> int:
    """The largest one that is not above; 1 for 0."""
    return 1 << max(count.bit_length() - 1, 0)


def _divided(count: int, parts: int) -> int:
    return -(-count // parts)
