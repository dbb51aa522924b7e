"""Which sums of gradients autograd makes in place.

Where several gradients meet, autograd adds the second to the first in place if nobody else holds the first.
Under a dispatch mode, such as the tracer's, it takes every tensor for a subclass's and makes a new one each
time. The tracer therefore asks here, and hands back the first tensor itself where the sum would be in place.

Source: pytorch, torch/csrc/autograd/input_buffer.cpp (accumulate, can_accumulate_inplace) and
aten/src/ATen/TensorSubclassLikeUtils.h (isTensorSubclassLike).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode

_ADDITION = torch.ops.aten.add.Tensor
Counts = tuple[int, int]
"""References to a tensor and to its storage, those of the tracer included."""


def adds_in_place(function: Any, arguments: Sequence[Any], sole: Counts) -> bool:
    """Whether this call, just dispatched to Python, is a sum that autograd would make in place.

    To be asked by `__torch_dispatch__` itself, of its own arguments: who called it and who holds the
    arguments is what counts. sole: `sole_counts()`.
    """
    return _is_sum_of_gradients(function, arguments) and (
        _counts(arguments[0]) == sole and _is_dense(arguments[0])
    )


def _is_sum_of_gradients(function: Any, arguments: Sequence[Any]) -> bool:
    """Called by the engine itself, with no Python function of the backward pass between. (Of the formulas of
    backward functions written in C++ those in use here add numbers only.)"""
    return (
        function is _ADDITION
        and sys._getframe(3).f_code is _engine_run_backward.__code__
        and isinstance(arguments[1], Tensor)
        and not torch.is_grad_enabled()
    )


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


def _counts(tensor: Tensor) -> Counts:
    storage = tensor.untyped_storage()
    references: int = tensor._use_count()  # type: ignore[attr-defined]
    return references, torch._C._storage_Use_Count(storage._cdata)


@functools.cache
def sole_counts() -> Counts:
    """The counts of a gradient that nobody else holds, found by summing two such.

    Raises: RuntimeError where this PyTorch sums them in another way.
    """
    seen: list[Counts] = []

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # as the tracer: no function of PyTorch's between the caller and here

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            self.ask(func, args)
            return func(*args, **(kwargs or {}))

        def ask(self, function: Any, arguments: Sequence[Any]) -> None:
            if _is_sum_of_gradients(function, arguments):
                seen.append(_counts(arguments[0]))

    with torch.autograd.set_multithreading_enabled(False), torch.enable_grad():
        leaf = torch.zeros(2, requires_grad=True)
        with Watching():  # type: ignore[no-untyped-call]
            sole, held = leaf * 2.0, leaf * 3.0
            loss = (sole.sin() + sole.cos() + (held + held)).sum()
            loss.backward()  # type: ignore[no-untyped-call]
    if len(seen) != 3 or seen.count(seen[0]) == 3:
        raise RuntimeError(f"torch {torch.__version__}: the sums of gradients are not where they were")
    return min(seen)


def next_sequence_number() -> int:
    """The number that autograd gives the next node of the graph."""
    return int(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]
