"""Activations seen as rows: what the row-wise kernels share before a launch."""

from __future__ import annotations

import torch
from torch import Tensor

from .device_limits import require_triton_device
from .versions import UnsupportedVersionError

COMPUTE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def as_rows(x: Tensor) -> Tensor:
    """x [..., d] as [rows, d] with contiguous rows; a view of a fused projection is not copied."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(-1) == 1 or rows.shape[-1] == 1 else rows.contiguous()


def require_rows(x: Tensor, operation: str, max_width: int) -> None:
    """Refuse what a row-wise kernel cannot take.

    Raises: UnsupportedVersionError for a device without Triton, a dtype that is no compute dtype, or rows
    wider than `max_width`.
    """
    require_triton_device(x, operation)
    if x.dtype not in COMPUTE_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in COMPUTE_DTYPES)
        raise UnsupportedVersionError(
            f"{operation}: expected one of {names}, got {str(x.dtype).removeprefix('torch.')}; "
            "kernel version 'reference' takes every type"
        )
    if x.shape[-1] > max_width:
        raise UnsupportedVersionError(
            f"{operation}: expected a last dimension of at most {max_width}, got {x.shape[-1]}; "
            "kernel version 'reference' takes every width"
        )
