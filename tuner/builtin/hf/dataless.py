"""Where transformers and peft look at data, or move it, that a traced step does not have."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor


@contextlib.contextmanager
def movable_modules() -> Iterator[None]:
    """While it lasts under a fake mode, `Module.to` and its like make new parameters where something changes.

    PyTorch 2.13 refuses to move a fake parameter, as its mode holds a weak reference to it. What need not be
    moved stays the same object, so that ties between weights hold. Without a fake mode nothing is done.
    """
    if torch._guards.detect_fake_mode() is None:
        yield
        return
    with _replaced(nn.Module, "_apply", _apply):
        yield


@contextlib.contextmanager
def unpacked(tokens: Tensor) -> Iterator[None]:
    """While it lasts, for tokens without data, transformers need not look for padding or packed sequences.

    It asks masks and positions, which have no data, and makes a mask of N × N to be safe where it sees a fake
    tensor. Our batches have neither, so that a step on a GPU does without a mask.
    """
    if not isinstance(tokens, FakeTensor) and tokens.device.type != "meta":
        yield
        return
    masks = importlib.import_module("transformers.masking_utils")
    with (
        _replaced(masks, "find_packed_sequence_indices", lambda position_ids: None),
        _replaced(masks, "fast_all", lambda mask: True),
    ):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    real = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, real)


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
