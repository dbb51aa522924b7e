"""Values of small tensors that follow from no data: positions, masks of ones, lengths.

Models ask such tensors before they decide how to go on: whether every position follows the one before it,
whether a mask lets everything through. So tensors that begin as a range or a constant have their values
beside them, on the CPU, as long as all that is done to them is known too. Everything else has none, and who
asks for it cannot be followed.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .not_traceable import not_traceable
from .operations import tensors_of

_MOST_VALUES = 1 << 20
_CREATED = frozenset(
    {"arange", "zeros", "ones", "full", "scalar_tensor", "zeros_like", "ones_like", "full_like", "new_zeros"}
    | {"new_ones", "new_full", "linspace", "eye", "tril_indices", "triu_indices"}
)
ITEM, EQUAL = torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default


class KnownValues:
    """Values by tensor of the meta device."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}

    def of(self, tensor: Tensor) -> Tensor | None:
        """The tensor's values, None where they follow from data. A tensor of the CPU has its own."""
        if tensor.device.type == "cpu":
            return tensor
        known = self._known.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None

    def asked(self, function: Any, args: Sequence[Any]) -> Any:
        """What ITEM or EQUAL returns.

        Raises: NotTraceable where that follows from data.
        """
        values = [self.of(tensor) for tensor in tensors_of(args)]
        if any(value is None for value in values):
            raise not_traceable(function.name().partition("::")[2], "its value follows from data")
        return function(*values)

    def follow(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        """After an operation: give its result values where they are known, take them where no longer."""
        schema = function._schema
        if schema.is_mutable:
            self._write(function, args, kwargs)
            return
        if not isinstance(result, Tensor) or result.device.type != "meta" or result.numel() > _MOST_VALUES:
            return
        is_created = schema.name.partition("::")[2] in _CREATED
        tensors = tensors_of((*args, *kwargs.values()))
        if not (tensors or is_created) or torch.Tag.nondeterministic_seeded in function.tags:
            return
        if is_created and result.is_floating_point() and result.numel() > 1:
            return  # parameters begin so
        on_cpu = self._on_cpu(args, kwargs, or_empty=is_created)
        if on_cpu is not None:
            values = function(*on_cpu[0], **on_cpu[1])
            self._known[id(result)] = weakref.ref(result), values

    def _write(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        written = [tensor for tensor in tensors_of(args[:1]) if tensor.device.type == "meta"]
        kept = [value for tensor in written if (value := self.of(tensor)) is not None]
        if not kept:
            return
        on_cpu = self._on_cpu(args, kwargs, or_empty=False)
        if on_cpu is not None and torch.Tag.nondeterministic_seeded not in function.tags:
            function(*on_cpu[0], **on_cpu[1])  # views share memory here too
            return
        lost = {value.untyped_storage()._cdata for value in kept}
        self._known = {
            key: known for key, known in self._known.items() if known[1].untyped_storage()._cdata not in lost
        }

    def _on_cpu(
        self, args: Sequence[Any], kwargs: dict[str, Any], *, or_empty: bool
    ) -> tuple[list[Any], dict[str, Any]] | None:
        """Arguments with values in place of tensors; None where one has none. or_empty: then its shape."""
        is_known = True

        def valued(item: Any) -> Any:
            nonlocal is_known
            if isinstance(item, Tensor):
                value = self.of(item)
                if value is None and or_empty:
                    return torch.empty(item.shape, dtype=item.dtype)
                is_known = is_known and value is not None
                return value
            if isinstance(item, (list, tuple)):
                return type(item)(valued(inner) for inner in item)
            return torch.device("cpu") if isinstance(item, torch.device) else item

        found = [valued(item) for item in args], {key: valued(item) for key, item in kwargs.items()}
        return found if is_known else None
