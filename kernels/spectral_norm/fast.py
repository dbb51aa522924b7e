# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""The spectral norm in one launch of one program, where PyTorch has fifty; its gradient is u·vᵀ."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..device_limits import require_triton_device
from ..segments import require_float32
from ..versions import UnsupportedVersionError
from .reference import SQUARINGS

_MAX_SIZE = 64  # a program holds the matrix, its power and a product of them in registers
_SMALLEST_DOT = 16  # tl.dot's smallest side
_SIZE_PER_WARP = 8


def spectral_norm(matrix: Tensor) -> Tensor:
    """‖matrix‖₂ as `reference.spectral_norm`; float32 only, at most 64 × 64.

    Raises: UnsupportedVersionError for other dtypes and sizes, and for a CPU without Triton's interpreter.
    """
    require_triton_device(matrix, "spectral_norm fast")
    require_float32("spectral_norm", "fast", matrix=matrix)
    if matrix.shape[0] > _MAX_SIZE:
        raise UnsupportedVersionError(
            f"spectral_norm fast: expected a matrix of at most {_MAX_SIZE} rows, got {matrix.shape[0]}; "
            "version 'reference' takes any"
        )
    norm: Tensor = _forward(matrix)[0]
    return norm


@triton.jit
def rescaled(power, tiny):
    """power / ‖power‖."""
    return power / tl.maximum(tl.sqrt_rn(tl.sum(tl.sum(power * power, 1), 0)), tiny)


@triton.jit
def vectors_kernel(
    matrix, norm, left, right, SIZE: tl.constexpr, BLOCK: tl.constexpr, SQUARINGS: tl.constexpr
):
    """norm = uᵀMv, left = u, right = v: v the largest column of (MᵀM)^(2^SQUARINGS), u along M·v."""
    tiny: tl.constexpr = 1.1754943508222875e-38  # the least normal float32
    i = tl.arange(0, BLOCK)
    known = (i[:, None] < SIZE) & (i[None, :] < SIZE)
    m = tl.load(matrix + i[:, None] * SIZE + i[None, :], mask=known, other=0.0)
    power = rescaled(tl.dot(tl.trans(m), m, input_precision="ieee"), tiny)
    for _ in range(SQUARINGS):
        power = rescaled(tl.dot(power, power, input_precision="ieee"), tiny)
    column = tl.argmax(tl.sum(power * power, 0), 0)
    v = tl.sum(tl.where(i[None, :] == column, power, 0.0), 1)
    v = v / tl.maximum(tl.sqrt_rn(tl.sum(v * v, 0)), tiny)
    # The power is symmetric: v along rows, too, without another layout of it
    across = tl.sum(tl.where(i[:, None] == column, power, 0.0), 0)
    across = across / tl.maximum(tl.sqrt_rn(tl.sum(across * across, 0)), tiny)
    product = tl.sum(m * across[None, :], 1)
    length = tl.sqrt_rn(tl.sum(product * product, 0))
    u = product / tl.maximum(length, tiny)
    tl.store(norm, tl.sum(u * product, 0))
    tl.store(left + i, u, mask=i < SIZE)
    tl.store(right + i, v, mask=i < SIZE)


@torch.library.custom_op(
    "phase8::spectral_norm_fast",
    mutates_args=(),
    schema="(Tensor matrix) -> (Tensor, Tensor, Tensor)",
)
def _forward(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The norm, and the leading vectors u and v."""
    results = _new_results(matrix)
    size = matrix.shape[0]
    block = max(int(triton.next_power_of_2(size)), _SMALLEST_DOT)
    vectors_kernel[(1,)](
        matrix.contiguous(), *results,
        SIZE=size, BLOCK=block, SQUARINGS=SQUARINGS, num_warps=block // _SIZE_PER_WARP,
    )  # fmt: skip
    return results


def _new_results(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    size = matrix.shape[0]
    return matrix.new_empty(()), matrix.new_empty(size), matrix.new_empty(size)


@_forward.register_fake
def _(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _new_results(matrix)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output[1:])


def _differentiate(ctx: Any, grad: Tensor, *_: Tensor) -> Any:
    left, right = ctx.saved_tensors
    return torch.outer(grad * left, right)


_forward.register_autograd(_differentiate, setup_context=_setup_context)
