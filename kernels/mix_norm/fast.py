"""The block's epilogue in one kernel forward; backward one pass, the convolution's transpose, and the sums.

The low-rank product of the global path is cuBLAS's, each way: its result stays in L2 for the kernel after it.
Kept for the backward: the inputs and a row's mean and reciprocal deviation; mixed values are computed again.
Scratch of the backward (the gradient of the global path, the programs' sums) is an output of its op: whoever
traces it sees that memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from ..rows import as_rows, require_rows
from . import parameters, tiles

_EPS = 1e-5  # that of torch.nn.functional.layer_norm
_MAX_WIDTH = 1 << 13  # columns that a program's registers hold


def mix_norm(
    local: Tensor,
    ranked: Tensor,
    n: Tensor,
    g_re: Tensor,
    g_im: Tensor,
    theta: Tensor,
    global_weight: Tensor,
    global_bias: Tensor,
    conv_weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    resolvent_scale: Tensor,
    resolvent_weight: Tensor,
    resolvent_bias: Tensor,
    residual: Tensor | None,
) -> Tensor:
    """y = LayerNorm(m·local + (1 − m)·global) + b_s ⊙ (W_g [Re g, Im g] + b_g), plus residual.

    Shapes as in the reference: local, n, residual [B, N, d] and ranked [B, N, R] in the compute dtype;
    g_re, g_im [B, N] and all weights float32. Returns [B, N, d] in local's dtype.
    Raises: UnsupportedVersionError for a device, dtype or width that the kernel does not take.
    """
    y: Tensor = _mix_norm(
        local, ranked, n, g_re, g_im, theta, global_weight, global_bias, conv_weight, norm_weight, norm_bias,
        resolvent_scale, resolvent_weight, resolvent_bias, residual,
    )[0]  # fmt: skip
    return y


@torch.library.custom_op("phase8::mix_norm_fast", mutates_args=())
def _mix_norm(
    local: Tensor,
    ranked: Tensor,
    n: Tensor,
    g_re: Tensor,
    g_im: Tensor,
    theta: Tensor,
    global_weight: Tensor,
    global_bias: Tensor,
    conv_weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    resolvent_scale: Tensor,
    resolvent_weight: Tensor,
    resolvent_bias: Tensor,
    residual: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, and a row's mean and reciprocal deviation [B, N] float32."""
    require_rows(local, "mix_norm", _MAX_WIDTH)
    local_rows, n_rows = as_rows(local), as_rows(n)
    residual_rows = None if residual is None else as_rows(residual)
    count, d = local_rows.shape
    tile = tiles.row_tiles(count, d, backward=False)
    projected = _project(ranked, global_weight, global_bias)
    y, mean, rstd = _new_outputs(local)
    tiles.forward_kernel[(tile.programs,)](
        local_rows, projected, n_rows, g_re.contiguous(), g_im.contiguous(), theta,
        conv_weight, norm_weight, norm_bias, resolvent_scale, resolvent_weight, resolvent_bias,
        residual_rows, y, mean, rstd, count, n.shape[1], local_rows.stride(0), n_rows.stride(0),
        0 if residual_rows is None else residual_rows.stride(0),
        D=d, EPS=_EPS, HAS_RESIDUAL=residual is not None,
        ROWS=tile.rows, WIDTH=tile.width, num_warps=tile.warps,
    )  # fmt: skip
    return y, mean, rstd


@torch.library.custom_op("phase8::mix_norm_fast_backward", mutates_args=())
def _backward(
    grad: Tensor,
    local: Tensor,
    ranked: Tensor,
    n: Tensor,
    g_re: Tensor,
    g_im: Tensor,
    theta: Tensor,
    global_weight: Tensor,
    global_bias: Tensor,
    conv_weight: Tensor,
    norm_weight: Tensor,
    resolvent_scale: Tensor,
    resolvent_weight: Tensor,
    resolvent_bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of local, global path, n, g_re, g_im; of the vectors and θ, packed; and the partial sums."""
    grad_rows, local_rows, n_rows = as_rows(grad), as_rows(local), as_rows(n)
    (count, d), n_seq = local_rows.shape, n.shape[1]
    tile = tiles.row_tiles(count, d, backward=True)
    projected = _project(ranked, global_weight, global_bias)
    outputs = _new_gradients(local)
    grad_local, grad_total, grad_n, grad_re, grad_im, packed, partials = outputs
    tiles.backward_kernel[(tile.programs,)](
        grad_rows, local_rows, projected, n_rows, g_re.contiguous(), g_im.contiguous(), theta,
        conv_weight, norm_weight, resolvent_scale, resolvent_weight, mean, rstd,
        grad_local, grad_total, grad_re, grad_im, partials,
        count, n_seq, grad_rows.stride(0), local_rows.stride(0), n_rows.stride(0),
        D=d, SUMS=tiles.SUMS, PAD=tiles.PAD, ROWS=tile.rows, WIDTH=tile.width, num_warps=tile.warps,
    )  # fmt: skip
    wide = tiles.row_tiles(count, d, backward=False)
    tiles.conv_backward_kernel[(wide.programs,)](
        grad_total, conv_weight, grad_n, count, n_seq,
        D=d, ROWS=wide.rows, WIDTH=wide.width, num_warps=wide.warps,
    )  # fmt: skip
    parameters.parameters_kernel[(triton.cdiv(d, parameters.COLUMNS),)](
        partials.sum(0), resolvent_scale, resolvent_weight, resolvent_bias, packed,
        D=d, SUMS=tiles.SUMS, COLUMNS=parameters.COLUMNS, num_warps=4,
    )  # fmt: skip
    return outputs


class VectorGradients(NamedTuple):
    """Gradients of the vectors and of θ, in the order that `parameters_kernel` packs them in."""

    conv_weight: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    resolvent_scale: Tensor
    resolvent_bias: Tensor
    global_bias: Tensor
    resolvent_weight: Tensor
    theta: Tensor


def split_packed(packed: Tensor, d: int) -> VectorGradients:
    """Views of packed [10·d + 1] in the parameters' shapes."""
    parts = torch.split(packed, [3 * d, d, d, d, d, d, 2 * d, 1])
    conv, norm_weight, norm_bias, scale, bias, global_bias, weight, theta = parts
    return VectorGradients(
        conv.view(3, d), norm_weight, norm_bias, scale, bias, global_bias, weight.view(d, 2), theta.view(())
    )


def _project(ranked: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The global path before its convolution, [tokens, d] in ranked's dtype, rounded as the reference's."""
    dtype = ranked.dtype
    return torch.addmm(bias.to(dtype), as_rows(ranked), weight.to(dtype).T)


def _new_outputs(local: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty(local.shape, dtype=local.dtype, device=local.device)
    mean, rstd = (torch.empty(local.shape[:-1], dtype=torch.float32, device=local.device) for _ in range(2))
    return y, mean, rstd


def _new_gradients(local: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    d, device = local.shape[-1], local.device
    programs = tiles.row_tiles(local.numel() // d, d, backward=True).programs
    wide = [torch.empty(local.shape, dtype=local.dtype, device=device) for _ in range(3)]
    per_row = [torch.empty(local.shape[:-1], dtype=torch.float32, device=device) for _ in range(2)]
    packed = torch.empty(10 * d + 1, dtype=torch.float32, device=device)
    partials = torch.empty((programs, tiles.SUMS * d + tiles.PAD), dtype=torch.float32, device=device)
    return wide[0], wide[1], wide[2], per_row[0], per_row[1], packed, partials


@_mix_norm.register_fake
def _(local: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _new_outputs(local)


@_backward.register_fake
def _(
    grad: Tensor, local: Tensor, *_: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _new_gradients(local)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *operands, _norm_bias, b_s, w_g, b_g, residual = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)
    ctx.has_residual = residual is not None
    ctx.save_for_backward(*operands, b_s, w_g, b_g, mean, rstd)


def _differentiate(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 15
    saved = ctx.saved_tensors
    ranked, global_weight = saved[1], saved[6]
    by_local, by_total, by_n, by_re, by_im, packed, _ = _backward(grad, *saved)
    d = by_local.shape[-1]
    rows = by_total.view(-1, d)
    by_ranked = torch.mm(rows, global_weight.to(rows.dtype)).view(ranked.shape)
    by_global_weight = torch.mm(rows.T, as_rows(ranked)).to(global_weight.dtype)
    of = split_packed(packed, d)
    return (
        by_local, by_ranked, by_n, by_re, by_im, of.theta, by_global_weight, of.global_bias,
        of.conv_weight, of.norm_weight, of.norm_bias, of.resolvent_scale, of.resolvent_weight,
        of.resolvent_bias, grad if ctx.has_residual else None,
    )  # fmt: skip


_mix_norm.register_autograd(_differentiate, setup_context=_keep)
