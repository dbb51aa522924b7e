"""LayerNorm and the potential, fused: one read of x forward; one read of x and of the gradient backward.

The statistics, the sums and the potential are float32; the potential is taken from n before n is rounded.
Kept for the backward: x, and a row's mean and reciprocal deviation. Parameters' gradients are summed in a
fixed order, by a fixed number of programs and then over them.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from ..rows import as_rows, require_rows
from .reference import V_MAX
from .tiles import MAX_WIDTH, backward_kernel, forward_kernel, row_tiles

_EPS = 1e-5  # that of torch.nn.functional.layer_norm


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm over the last dimension. x [..., d] in the compute dtype; weight, bias [d] float32.

    Raises: UnsupportedVersionError for a device or dtype that the kernel does not take.
    """
    n: Tensor = _layer_norm(x, weight, bias)[0]
    return n


def norm_potential(
    x: Tensor, weight: Tensor, bias: Tensor, potential_weight: Tensor, potential_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """n = LayerNorm(x), the potential v_max·tanh((w_v·n + b_v)/v_max), and x itself for the residual path.

    x [B, N, d] in the compute dtype; potential_weight [d], potential_bias scalar, all weights float32.
    Returns n [B, N, d] in x's dtype, the potential [B, N] in float32, and x: the gradient of what it becomes
    is added in the backward kernel.
    Raises: UnsupportedVersionError for a device or dtype that the kernel does not take.
    """
    results: tuple[Tensor, Tensor, Tensor]
    results = _NormPotential.apply(x, weight, bias, potential_weight, potential_bias)  # type: ignore[no-untyped-call]
    return results


@torch.library.custom_op("phase8::layer_norm_fast", mutates_args=())
def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, _, mean, rstd = _launch_forward(x, weight, bias, None, None)
    return n, mean, rstd


@torch.library.custom_op("phase8::norm_potential_fast", mutates_args=())
def _norm_potential(
    x: Tensor, weight: Tensor, bias: Tensor, potential_weight: Tensor, potential_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _launch_forward(x, weight, bias, potential_weight, potential_bias)


@torch.library.custom_op("phase8::layer_norm_fast_backward", mutates_args=())
def _backward(
    grad_n: Tensor,
    grad_potential: Tensor | None,
    grad_residual: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    potential_weight: Tensor | None,
    potential: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
) -> tuple[Tensor, Tensor]:
    """grad of x, grad_residual added, and partial sums [programs, …] of the parameters' gradients."""
    rows, grad_rows = as_rows(x), as_rows(grad_n)
    residual_rows = None if grad_residual is None else as_rows(grad_residual)
    count, d = rows.shape
    tiles = row_tiles(count, d)
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    partials = _new_partials(x, potential is not None)
    backward_kernel[(tiles.programs,)](
        grad_rows, None if grad_potential is None else grad_potential.contiguous(), residual_rows,
        rows, weight, bias, potential_weight, potential, mean, rstd, grad_x, partials,
        count, grad_rows.stride(0), 0 if residual_rows is None else residual_rows.stride(0), rows.stride(0),
        D=d, V_MAX=V_MAX, HAS_POTENTIAL=potential is not None, HAS_RESIDUAL=residual_rows is not None,
        ROWS=tiles.rows, WIDTH=tiles.width, num_warps=tiles.warps,
    )  # fmt: skip
    return grad_x, partials


def _launch_forward(
    x: Tensor, weight: Tensor, bias: Tensor, potential_weight: Tensor | None, potential_bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    require_rows(x, "layer_norm" if potential_weight is None else "norm_potential", MAX_WIDTH)
    rows = as_rows(x)
    count, d = rows.shape
    tiles = row_tiles(count, d)
    n, potential, mean, rstd = _new_outputs(x)
    forward_kernel[(triton.cdiv(count, tiles.rows),)](
        rows, weight, bias, potential_weight, potential_bias, n, potential, mean, rstd,
        count, rows.stride(0),
        D=d, EPS=_EPS, V_MAX=V_MAX, HAS_POTENTIAL=potential_weight is not None,
        ROWS=tiles.rows, WIDTH=tiles.width, num_warps=tiles.warps,
    )  # fmt: skip
    return n, potential, mean, rstd


def _new_outputs(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """n as x, and potential, mean, rstd: one float32 a row."""
    per_row = [torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device) for _ in range(3)]
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), per_row[0], per_row[1], per_row[2]


def _new_partials(x: Tensor, has_potential: bool) -> Tensor:
    d = x.shape[-1]
    programs = row_tiles(x.numel() // d, d).programs
    return torch.empty(
        (programs, 3 * d + 1 if has_potential else 2 * d), dtype=torch.float32, device=x.device
    )


@_layer_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, _, mean, rstd = _new_outputs(x)
    return n, mean, rstd


@_norm_potential.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, potential_weight: Tensor, potential_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _new_outputs(x)


@_backward.register_fake
def _(
    grad_n: Tensor,
    grad_potential: Tensor | None,
    grad_residual: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    potential_weight: Tensor | None,
    potential: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
) -> tuple[Tensor, Tensor]:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), _new_partials(x, potential is not None)


def _keep_layer_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, bias, mean, rstd)


def _differentiate_layer_norm(ctx: Any, grad_n: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    x, weight, bias, mean, rstd = ctx.saved_tensors
    if grad_n is None:
        return None, None, None
    grad_x, partials = _backward(grad_n, None, None, x, weight, bias, None, None, mean, rstd)
    sums = partials.sum(0).view(2, -1)
    return grad_x, sums[0], sums[1]


def _keep_norm_potential(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[2:])
    _save(ctx, inputs, output)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, potential_weight, _ = inputs
    _, potential, mean, rstd = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, bias, potential_weight, potential, mean, rstd)


def _differentiate_norm_potential(
    ctx: Any, grad_n: Tensor | None, grad_potential: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    return _gradients(ctx, grad_n, grad_potential, None)


def _gradients(
    ctx: Any, grad_n: Tensor | None, grad_potential: Tensor | None, grad_residual: Tensor | None
) -> tuple[Tensor | None, ...]:
    x, weight, bias, potential_weight, potential, mean, rstd = ctx.saved_tensors
    if grad_n is None:
        grad_n = torch.zeros_like(x)
    if grad_potential is None:
        grad_potential = torch.zeros_like(potential)
    grad_x, partials = _backward(
        grad_n, grad_potential, grad_residual, x, weight, bias, potential_weight, potential, mean, rstd
    )
    sums, d = partials.sum(0), x.shape[-1]
    return grad_x, sums[:d], sums[d : 2 * d], sums[2 * d : 3 * d], sums[3 * d]


class _NormPotential(torch.autograd.Function):
    """phase8::norm_potential_fast, and its input as a third result, which an operation may not return."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = _norm_potential(*inputs)
        _save(ctx, inputs, output)
        n, potential, _, _ = output
        return n, potential, inputs[0].view_as(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, *gradients)


_layer_norm.register_autograd(_differentiate_layer_norm, setup_context=_keep_layer_norm)
_norm_potential.register_autograd(_differentiate_norm_potential, setup_context=_keep_norm_potential)
