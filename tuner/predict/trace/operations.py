"""Operations seen by the tracer: what they allocate, compute and move.

For speed the outputs of an operation are remembered by the shapes it got: of a model's thousands of
operations most are the same few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .not_traceable import not_traceable
from .scratch_rules import SCRATCH, ScratchRule

GEMMS = frozenset(
    {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot", "addbmm", "addr"},
)
"""Operations that cuBLAS runs: the first on a thread takes a workspace."""

_POINTWISE = frozenset(
    {
        "mul",
        "add",
        "sub",
        "div",
        "neg",
        "reciprocal",
        "sigmoid",
        "tanh",
        "relu",
        "sqrt",
        "exp",
        "log",
        "log1p",
    }
)
_ALLOCATIONS = frozenset(
    {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"}
)
"""Operations that launch nothing: what they make is written by others."""
_RESIZING = frozenset({"resize_", "resize_as_", "set_", "resize"})
_KERNELS_ON_CUDA = frozenset({"silu_backward", "mish_backward"})
"""Operations that are a composite elsewhere. Source: aten/src/ATen/native/native_functions.yaml."""
_BUILT_IN = ("aten", "prim", "prims", "profiler")
_VIEWS_BY_IMPLEMENTATION = frozenset({"_unsafe_view", "_reshape_alias"})


class Outputs(NamedTuple):
    """The remembered result of an operation: layouts of its outputs (None: no tensor) and its cost."""

    layouts: tuple[tuple[torch.Size, tuple[int, ...], torch.dtype] | None, ...]
    kind: type | None  # None: the one output itself
    flops: float
    moved_bytes: float


class Operation:
    """One overload of one operation, looked at once."""

    def __init__(self, function: Any) -> None:
        self.function = function
        schema = function._schema
        self.name = str(function).removesuffix(".default")
        self.short_name = function._schema.name.partition("::")[2]
        self.namespace = function.namespace
        self.is_custom = self.namespace not in _BUILT_IN
        returns_alias = any(value.alias_info is not None for value in schema.returns)
        mutates = any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments)
        # Inside an operation of ours these come whole: on CUDA too, what counts is what they are made of
        self.is_composite = self.short_name not in _KERNELS_ON_CUDA and (
            torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd")
        )
        self.is_view = (returns_alias and not mutates) or self.short_name in _VIEWS_BY_IMPLEMENTATION
        self.is_pure = not returns_alias and not mutates and not self.is_view
        self.writes_only = mutates and _writes_only(function)
        self._written = _written_place(schema) if self.writes_only and schema.returns else None
        self.is_pointwise = self.is_pure and self.namespace == "aten" and self.short_name in _POINTWISE
        self.is_allocation = self.namespace == "aten" and self.short_name in _ALLOCATIONS
        self.is_gemm = self.namespace == "aten" and self.short_name in GEMMS
        self.cost_class = "gemm" if self.is_gemm else "memory"
        self.scratch: ScratchRule | None = SCRATCH.get(self.short_name) if self.namespace == "aten" else None

    def written(self, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """What an operation that only writes returns: the argument that it wrote to, or nothing."""
        if self._written is None:
            return None
        place, name = self._written
        return arguments[place] if place < len(arguments) else options[name]


def _writes_only(function: Any) -> bool:
    """Whether all it does is to write into memory that its arguments have: without data, nothing. (Outputs
    are of the right size already. Products with float32 results of narrower operands exist on CUDA only.)"""
    schema = function._schema
    if torch.Tag.inplace_view in function.tags or function.namespace != "aten":
        return False
    if schema.name.partition("::")[2] in _RESIZING:
        return False
    if not schema.returns:
        return True
    returned = schema.returns[0].alias_info
    return len(schema.returns) == 1 and returned is not None and returned.is_write


def _written_place(schema: Any) -> tuple[int, str]:
    """Position and name of the argument that is returned."""
    returned = schema.returns[0].alias_info.before_set
    return next(
        (place, argument.name)
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.before_set == returned
    )


def custom_body(function: Any) -> Any:
    """The Python body of a custom operation.

    Raises: NotTraceable for an operation that was not defined by `torch.library.custom_op`.
    """
    from torch._library.custom_ops import OPDEFS

    name = function._schema.name
    if name not in OPDEFS:
        raise not_traceable(name, "what a library's own operation takes inside cannot be seen")
    return OPDEFS[name]._init_fn


def signature(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """A key of the arguments that decides the outputs' layouts.

    Raises: TypeError (from hashing it) where an argument cannot be compared.
    """
    key: list[Any] = []
    for value in arguments:
        if isinstance(value, Tensor):
            key.append((value.shape, value.stride(), value.dtype))
        elif isinstance(value, (list, tuple)):
            key.append(signature(value))
        else:
            key.append((type(value), value))
    return tuple(key)


def tensors_of(arguments: Sequence[Any]) -> list[Tensor]:
    """All tensors among the arguments and in lists of them."""
    found: list[Tensor] = []
    for value in arguments:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors_of(value)
    return found


def tensor_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of the tensors' elements, as they are read or written once."""
    return sum(t.numel() * t.element_size() for t in tensors)


def flops(operation: Operation, arguments: Sequence[Any]) -> float:
    """Multiplications and additions of a matrix product; 0 for others, whose time is their traffic."""
    if not operation.is_gemm:
        return 0.0
    pair = [t for t in arguments if isinstance(t, Tensor)][-2:]
    if operation.short_name.startswith("add") or operation.short_name == "baddbmm":
        pair = [t for t in arguments if isinstance(t, Tensor)][1:3]
    first, second = pair
    columns = second.shape[-1] if second.dim() > 1 else 1
    return 2.0 * first.numel() * columns


def adds_bias_in_product(function: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> bool:
    """Whether a product is one call of cuBLASLt that also adds the bias.

    Source: pytorch, aten/src/ATen/native/cuda/Blas.cpp, isInputCompliesAddmmCudaLt.
    """
    if function is not torch.ops.aten.addmm.default:
        return False
    bias, first, second = arguments[:3]
    return bool(
        options.get("beta", 1) == 1
        and bias.dim() == 1
        and bias.shape[0] == second.shape[1]
        and bias.is_contiguous()
        and min(first.shape) > 1
        and second.shape[0] > 1
        and second.shape[1] > 1
    )


def remember(
    operation: Operation, arguments: Sequence[Any], result: Any, device: torch.device
) -> Outputs | None:
    """What to make again for the same arguments; None where outputs share storage or lie elsewhere."""
    is_list = isinstance(result, (list, tuple))
    values = tuple(result) if is_list else (result,)
    outputs = [value for value in values if isinstance(value, Tensor)]
    if any(value is not None and not isinstance(value, Tensor) for value in values) or not outputs:
        return None
    inputs = {t.untyped_storage()._cdata for t in tensors_of(arguments)}
    storages = [t.untyped_storage()._cdata for t in outputs]
    if any(t.device != device for t in outputs):
        return None
    if len(set(storages)) != len(storages) or inputs.intersection(storages):
        return None
    if any(t.untyped_storage().nbytes() != t.numel() * t.element_size() for t in outputs):
        return None
    layouts = tuple(None if v is None else (v.shape, v.stride(), v.dtype) for v in values)
    moved = tensor_bytes(tensors_of(arguments)) + tensor_bytes(outputs)
    return Outputs(layouts, type(result) if is_list else None, flops(operation, arguments), float(moved))


def pointwise(operation: Operation, arguments: Sequence[Any]) -> Outputs | None:
    """The plain case of a pointwise operation: floating tensors of one dtype, dense and
    all of one layout, or scalars. None for any other case.
    """
    if not operation.is_pointwise:
        return None
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    first = tensors[0]
    if not (first.is_contiguous() and (first.is_floating_point() or first.is_complex())):
        return None
    for value in arguments[1:]:
        if isinstance(value, Tensor):
            if value.dtype != first.dtype or value.shape != first.shape or value.stride() != first.stride():
                return None
        elif type(value) not in (int, float):
            return None
    size = first.numel() * first.element_size()
    layout = (first.shape, first.stride(), first.dtype)
    return Outputs((layout,), None, 0.0, float(size * (len(tensors) + 1)))


def recreate(outputs: Outputs, device: torch.device) -> Any:
    """New tensors with the remembered layouts."""
    made = [
        None if layout is None
        else torch.empty_strided(layout[0], layout[1], dtype=layout[2], device=device)
        for layout in outputs.layouts
    ]  # fmt: skip
    if outputs.kind is None:
        return made[0]
    return made if outputs.kind is list else tuple(made)
