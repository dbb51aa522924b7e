# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""A block's three scalars in one launch each way, where PyTorch has five and eight."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..device_limits import require_triton_device
from ..segments import require_float32
from .reference import CURVATURE_BOUNDS, ENERGY_FLOOR

_BOUNDS = {"LEAST": CURVATURE_BOUNDS[0], "MOST": CURVATURE_BOUNDS[1], "num_warps": 1}


def block_scalars(epsilon: Tensor, log_curvature: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `reference.block_scalars`; float32 only.

    Raises: UnsupportedVersionError for other dtypes and for a CPU without Triton's interpreter.
    """
    require_triton_device(epsilon, "block_scalars fast")
    require_float32("block_scalars", "fast", epsilon=epsilon, log_curvature=log_curvature, beta=beta)
    scalars: tuple[Tensor, Tensor, Tensor] = _forward(epsilon, log_curvature, beta)
    return scalars


@triton.jit
def softplus(x):
    """log(1 + eˣ); x itself above 20, as PyTorch's."""
    grown = tl.exp(tl.minimum(x, 20.0))
    u = 1.0 + grown
    # What rounding took from u is put back: log(u)·eˣ/(u − 1) (Kahan)
    log = tl.where(u == 1.0, grown, tl.log(u) * (grown / tl.where(u == 1.0, 1.0, u - 1.0)))
    return tl.where(x > 20.0, x, log)


@triton.jit
def forward_kernel(
    epsilon, log_curvature, beta, energy_im, curvature, sharpness,
    FLOOR: tl.constexpr, LEAST: tl.constexpr, MOST: tl.constexpr,
):  # fmt: skip
    tl.store(energy_im, softplus(tl.load(epsilon)) + FLOOR)
    # Comparisons, not a maximum: NaN stays NaN
    c = softplus(tl.load(log_curvature))
    c = tl.where(c < LEAST, LEAST, c)
    tl.store(curvature, tl.where(c > MOST, MOST, c))
    tl.store(sharpness, softplus(tl.load(beta)))


@triton.jit
def backward_kernel(
    by_energy_im, by_curvature, by_sharpness, epsilon, log_curvature, beta,
    by_epsilon, by_log_curvature, by_beta,
    LEAST: tl.constexpr, MOST: tl.constexpr,
):  # fmt: skip
    """softplus' is the logistic function; where the curvature is clamped it has no gradient."""
    tl.store(by_epsilon, tl.load(by_energy_im) * tl.sigmoid(tl.load(epsilon)))
    x = tl.load(log_curvature)
    c = softplus(x)
    slope = tl.where((c >= LEAST) & (c <= MOST), tl.sigmoid(x), 0.0)
    tl.store(by_log_curvature, tl.load(by_curvature) * slope)
    tl.store(by_beta, tl.load(by_sharpness) * tl.sigmoid(tl.load(beta)))


@torch.library.custom_op(
    "phase8::block_scalars_fast",
    mutates_args=(),
    schema="(Tensor epsilon, Tensor log_curvature, Tensor beta) -> (Tensor, Tensor, Tensor)",
)
def _forward(epsilon: Tensor, log_curvature: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scalars = _like(epsilon, log_curvature, beta)
    forward_kernel[(1,)](epsilon, log_curvature, beta, *scalars, FLOOR=ENERGY_FLOOR, **_BOUNDS)
    return scalars


@torch.library.custom_op(
    "phase8::block_scalars_fast_backward",
    mutates_args=(),
    schema="(Tensor by_energy_im, Tensor by_curvature, Tensor by_sharpness, Tensor epsilon, "
    "Tensor log_curvature, Tensor beta) -> (Tensor, Tensor, Tensor)",
)
def _backward(
    by_energy_im: Tensor,
    by_curvature: Tensor,
    by_sharpness: Tensor,
    epsilon: Tensor,
    log_curvature: Tensor,
    beta: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    gradients = _like(epsilon, log_curvature, beta)
    backward_kernel[(1,)](
        by_energy_im, by_curvature, by_sharpness, epsilon, log_curvature, beta, *gradients, **_BOUNDS
    )
    return gradients


def _like(first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return first.new_empty(()), second.new_empty(()), third.new_empty(())


@_forward.register_fake
def _(epsilon: Tensor, log_curvature: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _like(epsilon, log_curvature, beta)


@_backward.register_fake
def _(
    by_energy_im: Tensor,
    by_curvature: Tensor,
    by_sharpness: Tensor,
    epsilon: Tensor,
    log_curvature: Tensor,
    beta: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(epsilon, log_curvature, beta)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, *gradients: Tensor) -> Any:
    return _backward(*gradients, *ctx.saved_tensors)


_forward.register_autograd(_differentiate, setup_context=_setup_context)
