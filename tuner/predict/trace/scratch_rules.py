"""What CUDA's implementations of PyTorch's operations take inside, beside inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .library_scratch import LIBRARY_SCRATCH
from .reductions import Reduction
from .scratch import ScratchOf, Sorting

ScratchRule = Callable[[Sequence[Any], Any], Sequence[int | ScratchOf]]
"""What an operation takes for its arguments and what it made of them."""


def _index_put_scratch(arguments: Sequence[Any], made: Any) -> list[int | ScratchOf]:
    """aten/src/ATen/native/cuda/Indexing.cu, index_put_with_sort_kernel: linear, sorted and original indices
    (int64 each), and cub's radix sort over them, which holds a second pair."""
    indices = [index for index in arguments[1] if index is not None]
    if not indices or not (len(arguments) > 3 and arguments[3]):
        return []
    count = max(index.numel() for index in indices)
    return [8 * count] * 3 + [16 * count]


def _embedding_backward_scratch(arguments: Sequence[Any], made: Any) -> list[int | ScratchOf]:
    """aten/src/ATen/native/cuda/Embedding.cu: above 3072 tokens the gradient is summed over sorted ones."""
    gradient, indices, rows = arguments[0], arguments[1], arguments[2]
    count = indices.numel()
    if count <= 3072:
        return []
    partial_sums = min(count, rows) + count // 10
    return [8 * count] * 6 + [4 * partial_sums * gradient.shape[-1]]


def _sort_scratch(arguments: Sequence[Any], made: Any) -> list[int | ScratchOf]:
    sorting = Sorting(arguments[0].numel(), arguments[0].element_size())
    return [ScratchOf(sorting, 0), ScratchOf(sorting, 1)]


def _reduction_scratch(arguments: Sequence[Any], dims: Any, part_bytes: int) -> list[int | ScratchOf]:
    """A reduction over `dims` (None or none: all of them), see `reductions`."""
    values = arguments[0]
    if isinstance(dims, int):
        dims = (dims,)
    rank = max(values.dim(), 1)
    reduced = sorted(dim % rank for dim in dims or range(values.dim()))
    reduction = Reduction(
        shape=tuple(values.shape),
        strides=tuple(values.stride()),
        offset=values.storage_offset(),
        reduced=tuple(reduced),
        item_bytes=values.element_size(),
        part_bytes=part_bytes,
    )
    return [ScratchOf(reduction, 0), ScratchOf(reduction, 1)]


def _second(arguments: Sequence[Any]) -> Any:
    return arguments[1] if len(arguments) > 1 else None


def _sum_scratch(arguments: Sequence[Any], made: Any) -> list[int | ScratchOf]:
    """Sums and means are kept in float32, or what is wider."""
    return _reduction_scratch(arguments, _second(arguments), max(4, arguments[0].element_size()))


def _norm_scratch(arguments: Sequence[Any], made: Any) -> list[int | ScratchOf]:
    return _reduction_scratch(arguments, arguments[2] if len(arguments) > 2 else None, 4)


def _argmax_scratch(arguments: Sequence[Any], made: Any) -> list[int | ScratchOf]:
    """A value and its int64 index."""
    return _reduction_scratch(arguments, _second(arguments), 16)


SCRATCH: dict[str, ScratchRule] = {
    "sum": _sum_scratch,
    "mean": _sum_scratch,
    "linalg_vector_norm": _norm_scratch,
    "argmax": _argmax_scratch,
    "index_put": _index_put_scratch,
    "index_put_": _index_put_scratch,
    "_index_put_impl_": _index_put_scratch,
    "embedding_dense_backward": _embedding_backward_scratch,
    "sort": _sort_scratch,
    **LIBRARY_SCRATCH,
}
"""Operation of ATen → bytes its CUDA implementation holds while it runs, beside inputs and outputs."""
