"""Modules with fake parameters, moved: PyTorch 2.13 refuses, as a fake mode holds weak references to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def movable_fake_modules() -> Iterator[None]:
    """While it lasts under a fake mode, `Module.to` and its like make new parameters where something changes.

    What is there already stays the same object, so that ties between weights hold. Without a fake mode
    nothing is done.
    """
    if torch._guards.detect_fake_mode() is None:
        yield
        return
    real = nn.Module._apply
    nn.Module._apply = _apply  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = real  # type: ignore[method-assign]


def _apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    if recurse:
        for child in module.children():
            child._apply(function)  # type: ignore[no-untyped-call]
    owned: list[dict[str, Any]] = [module._parameters, module._buffers]
    with torch.no_grad():
        for tensors in owned:
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                moved = function(tensor)
                if moved is not tensor:
                    is_learned = isinstance(tensor, nn.Parameter)
                    tensors[name] = nn.Parameter(moved, tensor.requires_grad) if is_learned else moved
    return module
