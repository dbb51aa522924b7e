"""PyTorch changed for as long as a step is traced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, owner.name is `value`; afterwards it is as before, also where it was a method of the class."""
    is_own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


@contextlib.contextmanager
def as_on_cuda() -> Iterator[None]:
    """PyTorch takes its fused and foreach implementations for meta tensors, as it does on CUDA."""
    with contextlib.ExitStack() as stack:
        for module in map(import_module, ("torch.optim.optimizer", "torch.utils._foreach_utils")):
            for name in ("_get_fused_kernels_supported_devices", "_get_foreach_kernels_supported_devices"):
                stack.enter_context(replaced(module, name, lambda: ["meta", "cuda"]))
        yield
