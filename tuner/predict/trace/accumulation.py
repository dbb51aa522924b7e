"""Which sums of gradients autograd makes in place.

In y = sin x + cos x two gradients of x meet, one from each function. Where nobody else holds the first,
autograd adds the second into its memory; else, as in y = x + x where both are one tensor, the sum takes
memory of its own. But under a dispatch mode, and the tracer is one, every tensor counts as held, and every
sum takes memory. So the tracer asks here, and hands back the first gradient where the sum would be in place.

The engine runs below Python. It is the engine that adds where the function that called `__torch_dispatch__`
is the one that entered the engine: a backward function in Python, a hook or a block that is computed again
would stand between. (Backward functions in C++ do not; of those in use here none adds tensors.)

Source: pytorch, torch/csrc/autograd/input_buffer.cpp (accumulate, can_accumulate_inplace) and
aten/src/ATen/TensorSubclassLikeUtils.h (isTensorSubclassLike).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode

SUM = torch.ops.aten.add.Tensor
Counts = tuple[int, int]
"""References to a tensor and to its storage, as a dispatch mode sees them: its own are among them."""


def sums_in_place(arguments: Sequence[Any], caller: FrameType, sole: Counts) -> bool:
    """Whether a call of SUM that a dispatch mode got is a sum that autograd would make in place.

    caller: of `__torch_dispatch__`. sole: `sole_counts()`.
    """
    if not _is_of_gradients(arguments, caller):
        return False
    first = arguments[0]
    return _counts(first) == sole and _is_dense(first)


@functools.cache
def sole_counts() -> Counts:
    """The counts of a gradient that nobody else holds, seen in a backward pass with three sums.

    Two gradients of `alone` meet, and two of `leaf`: nobody holds the first of either. The two of `shared`
    are one tensor, so it is held once more.
    Raises: RuntimeError where this PyTorch sums them in another way.
    """
    seen: list[Counts] = []

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # as in the tracer: else a function of PyTorch's would be the caller

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if func is SUM and _is_of_gradients(args, sys._getframe(1)):
                seen.append(_counts(args[0]))
            return func(*args, **(kwargs or {}))

    with torch.autograd.set_multithreading_enabled(False), torch.enable_grad():
        leaf = torch.zeros(2, requires_grad=True)
        with Watching():  # type: ignore[no-untyped-call]
            alone, shared = leaf * 2.0, leaf * 3.0
            loss = (alone.sin() + alone.cos() + (shared + shared)).sum()
            loss.backward()  # type: ignore[no-untyped-call]
    if len(seen) != 3 or seen.count(seen[0]) == 3:
        raise RuntimeError(f"torch {torch.__version__}: the sums of gradients are not where they were")
    return min(seen)


def _is_of_gradients(arguments: Sequence[Any], caller: FrameType) -> bool:
    """Whether the engine itself adds two gradients."""
    return (
        caller.f_code is _engine_run_backward.__code__
        and isinstance(arguments[1], Tensor)
        and not torch.is_grad_enabled()
    )


def _counts(tensor: Tensor) -> Counts:
    storage = tensor.untyped_storage()
    references: int = tensor._use_count()  # type: ignore[attr-defined]
    return references, torch._C._storage_Use_Count(storage._cdata)


def _is_dense(tensor: Tensor) -> bool:
    """Whether its elements fill one run of memory, in any order of the dimensions."""
    run = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != run:
            return False
        run *= size
    return True
