"""The block as one operation: every product, scan and kernel of both passes in the order that needs least.

The kernels are those of the operations; what is saved is what lies between them. The gradient of the input
product is one buffer that attention, scan and gate write their columns of, where autograd concatenates six
tensors; gradients of n and x are added inside a product and a kernel; gradients of weights that are float32
leave cuBLAS so.

A token keeps x, the product, heads, local, ranked and the gate's logits (6.7 KB at d = 512 in 16 bits), and
attention's factors and some numbers a row (0.4 KB): n and the gate's hidden layer are computed again, 2 KB of
traffic a token. A step of small at 256×256 takes 40.4 ms on an H100; 43.1 with the operations one after the
other, which concatenate, copy, add and sum between them and keep 1.4 KB a token and layer more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ar_ssm_scan.fast import scan_backward
from ..ar_ssm_scan.operator import require_supported
from ..bk_scan import v2 as _bk_scan  # noqa: F401  (registers phase8::bk_scan_v2)
from ..layer_norm import fast as _layer_norm  # noqa: F401  (registers phase8::norm_potential_fast)
from ..mix_norm.fast import split_packed
from ..products import multiply
from ..rows import as_rows
from ..window_attention.fast import SCRATCH, write_gradients
from ..window_attention.operation import new_gradients, new_outputs
from .composed import splits
from .gate import hidden_gradient, hidden_layer
from .tensors import Parameters, Saved, require_types

_ops = torch.ops.phase8


def block(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    potential_weight: Tensor,
    potential_bias: Tensor,
    energy_re: Tensor,
    energy_im: Tensor,
    in_weight: Tensor,
    curvature: Tensor,
    beta: Tensor,
    sink: Tensor,
    out_weight: Tensor,
    gate_bias: Tensor,
    gate_weight: Tensor,
    gate_logit_bias: Tensor,
    decay: Tensor,
    theta: Tensor,
    global_weight: Tensor,
    global_bias: Tensor,
    conv_weight: Tensor,
    mix_weight: Tensor,
    mix_bias: Tensor,
    resolvent_scale: Tensor,
    resolvent_weight: Tensor,
    resolvent_bias: Tensor,
    n_heads: int,
    window: int,
    with_residual: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """x + y, or y alone without the residual, and the resolvent g; arguments as in `composed.block`.

    Raises: UnsupportedVersionError for a device, dtype or size that one of the kernels does not take.
    """
    parameters = Parameters(
        norm_weight, norm_bias, potential_weight, potential_bias, energy_re, energy_im, in_weight,
        curvature, beta, sink, out_weight, gate_bias, gate_weight, gate_logit_bias, decay, theta,
        global_weight, global_bias, conv_weight, mix_weight, mix_bias, resolvent_scale, resolvent_weight,
        resolvent_bias,
    )  # fmt: skip
    require_supported("fast", x, x, x, decay)
    require_types(parameters)
    y, g_re, g_im, *_ = _forward(x, list(parameters), n_heads, window, with_residual)
    return y, g_re, g_im


@torch.library.custom_op(
    "phase8::block_fast",
    mutates_args=(),
    schema="(Tensor x, Tensor[] parameters, int n_heads, int window, bool with_residual) -> ("
    + ", ".join(["Tensor"] * (1 + len(Saved._fields)))
    + ")",
)
def _forward(
    x: Tensor, parameters: list[Tensor], n_heads: int, window: int, with_residual: bool
) -> tuple[Tensor, ...]:
    """y, and what is `Saved`."""
    p, dtype, d = Parameters(*parameters), x.dtype, x.shape[2]
    n, potential, mean, rstd = _ops.norm_potential_fast(
        x, p.norm_weight, p.norm_bias, p.potential_weight, p.potential_bias
    )
    g_re, g_im = _ops.bk_scan_v2(potential, None, p.energy_re, p.energy_im)
    product = torch.mm(as_rows(n), p.in_weight.to(dtype).T).view(*x.shape[:2], -1)
    q, k, v, u, v_ssm, gate = _columns(product, p, n_heads)
    heads, lse, factors = _ops.window_attention_fast(q, k, v, p.curvature, p.beta, p.sink, window)
    local = torch.mm(heads.view(-1, d), p.out_weight.to(dtype).T).view(x.shape)
    hidden = hidden_layer(gate, p.gate_bias)
    gate_logits = torch.addmm(p.gate_logit_bias.to(dtype), hidden, p.gate_weight.to(dtype).T).view(u.shape)
    ranked = _ops.ar_ssm_scan_fast(gate_logits, u, v_ssm, p.decay)
    y, mix_mean, mix_rstd = _ops.mix_norm_fast(
        local, ranked, n, g_re, g_im, p.theta, p.global_weight, p.global_bias, p.conv_weight, p.mix_weight,
        p.mix_bias, p.resolvent_scale, p.resolvent_weight, p.resolvent_bias, x if with_residual else None,
    )  # fmt: skip
    saved = Saved(
        g_re, g_im, potential, mean, rstd, product, heads, lse, factors, gate_logits, local, ranked,
        mix_mean, mix_rstd,
    )  # fmt: skip
    return y, *saved


def _columns(product: Tensor, p: Parameters, n_heads: int) -> tuple[Tensor, ...]:
    """Views of product [B, N, ·]: q, k, v [B, N, H, D], u, v of the AR-SSM [B, N, R], gate [T, hidden]."""
    *qkv, u, v, gate = torch.split(product, splits(p.in_weight, p.decay.shape[0]), dim=-1)
    q, k, v_heads = (t.view(*t.shape[:2], n_heads, -1) for t in qkv)
    return q, k, v_heads, u, v, gate.flatten(0, 1)


@torch.library.custom_op(
    "phase8::block_fast_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor? grad_re, Tensor? grad_im, Tensor x, Tensor[] parameters, Tensor[] saved, "
    "int n_heads, int window, bool with_residual) -> (" + ", ".join(["Tensor"] * 10) + ")",
)
def _backward(
    grad: Tensor,
    grad_re: Tensor | None,
    grad_im: Tensor | None,
    x: Tensor,
    parameters: list[Tensor],
    saved: list[Tensor],
    n_heads: int,
    window: int,
    with_residual: bool,
) -> tuple[Tensor, ...]:
    """Gradients of x, of the four matrices, sums for the vectors: see `_differentiate`."""
    p, s, dtype, d = Parameters(*parameters), Saved(*saved), x.dtype, x.shape[2]
    n = _ops.norm_potential_fast(x, p.norm_weight, p.norm_bias, p.potential_weight, p.potential_bias)[0]
    by_local, by_total, by_n, by_re, by_im, by_mix, _ = _ops.mix_norm_fast_backward(
        grad, s.local, s.ranked, n, s.g_re, s.g_im, p.theta, p.global_weight, p.global_bias, p.conv_weight,
        p.mix_weight, p.resolvent_scale, p.resolvent_weight, p.resolvent_bias, s.mix_mean, s.mix_rstd,
    )  # fmt: skip
    by_local, by_total = by_local.view(-1, d), by_total.view(-1, d)
    by_ranked = torch.mm(by_total, p.global_weight.to(dtype)).view(s.ranked.shape)
    by_global_weight = _by_weight(by_total, s.ranked, p.global_weight)
    del by_total
    by_heads = torch.mm(by_local, p.out_weight.to(dtype)).view(s.heads.shape)
    by_out_weight = _by_weight(by_local, s.heads.flatten(2), p.out_weight)
    del by_local

    by_product = torch.empty_like(s.product)
    q, k, v, u, v_ssm, gate = _columns(s.product, p, n_heads)
    by_q, by_k, by_v, by_u, by_v_ssm, by_gate = _columns(by_product, p, n_heads)
    shares, delta = new_gradients(q, SCRATCH, window)[3:]
    write_gradients(
        by_heads, q, k, v, p.curvature, p.beta, p.sink, s.heads, s.lse, s.factors, window,
        (by_q, by_k, by_v, shares, delta),
    )  # fmt: skip
    del by_heads, delta
    by_logits = scan_backward(by_ranked, s.gate_logits, u, v_ssm, p.decay, by_u, by_v_ssm)[0].flatten(0, 1)
    hidden = hidden_layer(gate, p.gate_bias)
    by_gate_weight = _by_weight(by_logits, hidden, p.gate_weight)
    by_hidden = torch.mm(by_logits, p.gate_weight.to(dtype))
    by_gate_bias, by_gate_logit_bias = hidden_gradient(by_hidden, hidden, by_logits, by_gate)
    del hidden, by_hidden

    by_in_weight = _by_weight(by_product, n, p.in_weight)
    total_n = by_n.view(-1, d)
    torch.addmm(total_n, as_rows(by_product), p.in_weight.to(dtype), out=total_n)
    for total, more in ((by_re, grad_re), (by_im, grad_im)):
        if more is not None:
            total += more
    by_potential, _, by_energy = _ops.bk_scan_v2_backward(by_re, by_im, s.g_re, s.g_im, None)
    by_x, by_norm = _ops.layer_norm_fast_backward(
        by_n, by_potential, grad if with_residual else None, x, p.norm_weight, p.norm_bias,
        p.potential_weight, s.potential, s.mean, s.rstd,
    )  # fmt: skip
    by_gate_biases = torch.cat([by_gate_bias, by_gate_logit_bias])
    return (
        by_x, by_in_weight, by_out_weight, by_gate_weight, by_global_weight, by_norm.sum(0), by_mix,
        by_gate_biases, shares.sum(1), by_energy.flatten(1).sum(1),
    )  # fmt: skip


def _by_weight(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient of a matrix, gradᵀ @ x over all tokens, in its weight's type."""
    grad, x = as_rows(grad), as_rows(x)
    if weight.dtype == x.dtype:
        return torch.mm(grad.T, x)
    out = torch.empty((grad.shape[1], x.shape[1]), dtype=torch.float32, device=x.device)
    multiply(grad.T, x, out)
    return out.to(weight.dtype)


@_forward.register_fake
def _(
    x: Tensor, parameters: list[Tensor], n_heads: int, window: int, with_residual: bool
) -> tuple[Tensor, ...]:
    p = Parameters(*parameters)
    tokens, rank = x.shape[:2], p.decay.shape[0]
    product = x.new_empty((*tokens, p.in_weight.shape[0]))
    heads, lse, factors = new_outputs(_columns(product, p, n_heads)[0], SCRATCH, window)
    g_re, g_im, potential, mean, rstd, mix_mean, mix_rstd = (
        x.new_empty(tokens, dtype=torch.float32) for _ in range(7)
    )
    gate_logits, ranked = (x.new_empty((*tokens, rank)) for _ in range(2))
    y, local = x.new_empty(x.shape), x.new_empty(x.shape)
    return y, *Saved(
        g_re, g_im, potential, mean, rstd, product, heads, lse, factors, gate_logits, local, ranked,
        mix_mean, mix_rstd,
    )  # fmt: skip


@_backward.register_fake
def _(
    grad: Tensor,
    grad_re: Tensor | None,
    grad_im: Tensor | None,
    x: Tensor,
    parameters: list[Tensor],
    saved: list[Tensor],
    n_heads: int,
    window: int,
    with_residual: bool,
) -> tuple[Tensor, ...]:
    p, d = Parameters(*parameters), x.shape[2]
    matrices = (p.in_weight, p.out_weight, p.gate_weight, p.global_weight)
    vectors = (3 * d + 1, 10 * d + 1, p.gate_bias.shape[0] + p.gate_logit_bias.shape[0], 3, 2)
    return (
        x.new_empty(x.shape),
        *(x.new_empty(matrix.shape, dtype=matrix.dtype) for matrix in matrices),
        *(x.new_empty(size, dtype=torch.float32) for size in vectors),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, parameters, ctx.n_heads, ctx.window, ctx.with_residual = inputs
    saved = Saved(*output[1:])
    ctx.mark_non_differentiable(*saved[2:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, *parameters, *saved)


def _differentiate(
    ctx: Any, grad: Tensor | None, grad_re: Tensor | None, grad_im: Tensor | None, *_: None
) -> tuple[Any, ...]:
    x, *kept = ctx.saved_tensors  # read once: checkpointing allows no more
    parameters, saved = kept[: len(Parameters._fields)], kept[len(Parameters._fields) :]
    if grad is None:
        grad = torch.zeros_like(x)
    by_x, by_in, by_out, by_gate, by_global, norm, mix, gate_biases, scalars, energy = _backward(
        grad, grad_re, grad_im, x, parameters, saved, ctx.n_heads, ctx.window, ctx.with_residual
    )
    d, hidden = x.shape[2], by_gate.shape[1]
    by_mix = split_packed(mix, d)
    gradients = Parameters(
        norm_weight=norm[:d],
        norm_bias=norm[d : 2 * d],
        potential_weight=norm[2 * d : 3 * d],
        potential_bias=norm[3 * d],
        energy_re=energy[0],
        energy_im=energy[1],
        in_weight=by_in,
        curvature=scalars[0],
        beta=scalars[1],
        sink=scalars[2],
        out_weight=by_out,
        gate_bias=gate_biases[:hidden],
        gate_weight=by_gate,
        gate_logit_bias=gate_biases[hidden:],
        decay=None,  # type: ignore[arg-type]  # a constant
        theta=by_mix.theta,
        global_weight=by_global,
        global_bias=by_mix.global_bias,
        conv_weight=by_mix.conv_weight,
        mix_weight=by_mix.norm_weight,
        mix_bias=by_mix.norm_bias,
        resolvent_scale=by_mix.resolvent_scale,
        resolvent_weight=by_mix.resolvent_weight,
        resolvent_bias=by_mix.resolvent_bias,
    )
    return by_x, list(gradients), None, None, None


_forward.register_autograd(_differentiate, setup_context=_keep)
