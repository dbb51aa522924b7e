"""Keeps torch._dynamo from being loaded: 3 s of a process that only wants to know what is launched."""

from __future__ import annotations

from types import FunctionType
from typing import Any


def leave_dynamo_out() -> None:
    """Mark optimizers, and the Python forms of operations that meta tensors take, as not to be compiled.

    Their decorator loads torch._dynamo when one is first called, only to mark it so. Where a version of
    PyTorch does not look for the mark, all is as without it.
    Source: pytorch, torch/_compile.py, _disable_dynamo.
    """
    import torch._refs  # noqa: F401  (it fills the tables)
    from torch._decomp import global_decomposition_table
    from torch.optim import Optimizer

    seen: set[int] = set()
    for table in global_decomposition_table.values():
        for function in table.values():
            _mark(function, seen)
    for function in vars(Optimizer).values():
        _mark(function, seen)


def _mark(function: Any, seen: set[int]) -> None:
    """And all that it wraps: decorators keep that in their closures."""
    if not isinstance(function, FunctionType) or id(function) in seen:
        return
    seen.add(id(function))
    if not hasattr(function, "__dynamo_disable"):
        function.__dynamo_disable = function  # type: ignore[attr-defined]
    for cell in function.__closure__ or ():
        _mark(cell.cell_contents, seen)
