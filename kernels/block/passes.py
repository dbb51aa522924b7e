"""Both passes of the fused block: every product, scan and kernel in the order that needs least."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ar_ssm_scan.fast import scan_backward
from ..bk_scan import v2 as _bk_scan  # noqa: F401  (registers phase8::bk_scan_v2)
from ..layer_norm import fast as _layer_norm  # noqa: F401  (registers phase8::norm_potential_fast)
from ..mix_norm import fast as _mix_norm  # noqa: F401  (registers phase8::mix_norm_fast)
from ..products import multiply
from ..rows import as_rows
from ..window_attention.fast import SCRATCH, write_gradients
from ..window_attention.operation import new_gradients
from .casts import in_dtype
from .composed import splits
from .gate import hidden_gradient, hidden_layer
from .tensors import Derived, Kept, Parameters

_ops = torch.ops.phase8


def run_forward(
    x: Tensor, p: Parameters, n_heads: int, window: int, with_residual: bool
) -> tuple[Tensor, Kept, Derived]:
    """y [B, N, d], and what a backward reads."""
    n, potential, _, _ = _ops.norm_potential_fast(
        x, p.norm_weight, p.norm_bias, p.potential_weight, p.potential_bias
    )
    g_re, g_im = _ops.bk_scan_v2(potential, None, p.energy_re, p.energy_im)[:2]
    cast = in_dtype(p, x.dtype)
    product = torch.mm(as_rows(n), cast.in_weight.T).view(*x.shape[:2], -1)
    derived = _derive(product, cast, n_heads, window)
    *_, u, v, _ = columns(product, p, n_heads)
    ranked = _ops.ar_ssm_scan_fast(derived.gate_logits, u, v, p.decay)[0]
    y, mix_mean, mix_rstd = _ops.mix_norm_fast(
        derived.local, ranked, n, g_re, g_im, p.theta, cast.global_weight, cast.global_bias, p.conv_weight,
        p.mix_weight, p.mix_bias, p.resolvent_scale, p.resolvent_weight, p.resolvent_bias,
        x if with_residual else None,
    )  # fmt: skip
    return y, Kept(g_re, g_im, product, ranked, mix_mean, mix_rstd), derived


def _derive(product: Tensor, p: Parameters, n_heads: int, window: int) -> Derived:
    """The attention with its output product, and the logits of the AR-SSM's gate; p as `in_dtype` has it."""
    tokens = product.shape[:2]
    q, k, v, _, _, gate = columns(product, p, n_heads)
    heads, lse, factors = _ops.window_attention_fast(q, k, v, p.curvature, p.beta, p.sink, window)
    local = torch.mm(heads.view(tokens.numel(), -1), p.out_weight.T).view(*tokens, -1)
    hidden = hidden_layer(gate, p.gate_bias)
    gate_logits = torch.addmm(p.gate_logit_bias, hidden, p.gate_weight.T)
    return Derived(heads, lse, factors, local, gate_logits.view(*tokens, -1))


def columns(product: Tensor, p: Parameters, n_heads: int) -> tuple[Tensor, ...]:
    """Views of product [B, N, ·]: q, k, v [B, N, H, D], u, v of the AR-SSM [B, N, R], gate [T, hidden]."""
    *qkv, u, v, gate = torch.split(product, splits(p.in_weight, p.decay.shape[0]), dim=-1)
    q, k, v_heads = (t.view(*t.shape[:2], n_heads, -1) for t in qkv)
    return q, k, v_heads, u, v, gate.flatten(0, 1)


def run_backward(
    grad: Tensor,
    grad_re: Tensor | None,
    grad_im: Tensor | None,
    x: Tensor,
    p: Parameters,
    kept: Kept,
    derived: Sequence[Tensor],
    n_heads: int,
    window: int,
    with_residual: bool,
) -> tuple[Tensor, ...]:
    """Gradients of x, of the four matrices, sums for the vectors: see `fast.differentiate`.

    derived: what is `Derived`, or nothing: then it is computed again, by the same kernels to the bit.
    """
    cast, d = in_dtype(p, x.dtype), x.shape[2]
    n, potential, mean, rstd = _ops.norm_potential_fast(
        x, p.norm_weight, p.norm_bias, p.potential_weight, p.potential_bias
    )
    heads, lse, factors, local, gate_logits = derived or _derive(kept.product, cast, n_heads, window)
    by_local, by_total, by_n, by_re, by_im, by_mix, _ = _ops.mix_norm_fast_backward(
        grad, local, kept.ranked, n, kept.g_re, kept.g_im, p.theta, cast.global_weight, cast.global_bias,
        p.conv_weight, p.mix_weight, p.resolvent_scale, p.resolvent_weight, p.resolvent_bias,
        kept.mix_mean, kept.mix_rstd,
    )  # fmt: skip
    del local
    by_local, by_total = by_local.view(-1, d), by_total.view(-1, d)
    by_ranked = torch.mm(by_total, cast.global_weight).view(kept.ranked.shape)
    by_global_weight = _by_weight(by_total, kept.ranked, p.global_weight)
    del by_total
    by_heads = torch.mm(by_local, cast.out_weight).view(heads.shape)
    by_out_weight = _by_weight(by_local, heads.flatten(2), p.out_weight)
    del by_local

    by_product = torch.empty_like(kept.product)
    q, k, v, u, v_ssm, gate = columns(kept.product, p, n_heads)
    by_q, by_k, by_v, by_u, by_v_ssm, by_gate = columns(by_product, p, n_heads)
    shares, delta = new_gradients(q, SCRATCH, window)[3:]
    write_gradients(
        by_heads, q, k, v, p.curvature, p.beta, p.sink, heads, lse, factors, window,
        (by_q, by_k, by_v, shares, delta),
    )  # fmt: skip
    del by_heads, delta, heads, lse, factors
    by_logits = scan_backward(by_ranked, gate_logits, u, v_ssm, p.decay, by_u, by_v_ssm)[0].flatten(0, 1)
    hidden = hidden_layer(gate, p.gate_bias)
    by_gate_weight = _by_weight(by_logits, hidden, p.gate_weight)
    by_hidden = torch.mm(by_logits, cast.gate_weight)
    by_gate_biases = hidden_gradient(by_hidden, hidden, by_logits, by_gate)
    del hidden, by_hidden

    by_in_weight = _by_weight(by_product, n, p.in_weight)
    total_n = by_n.view(-1, d)
    torch.addmm(total_n, as_rows(by_product), cast.in_weight, out=total_n)
    for total, more in ((by_re, grad_re), (by_im, grad_im)):
        if more is not None:
            total += more
    by_potential, _, by_energy = _ops.bk_scan_v2_backward(by_re, by_im, kept.g_re, kept.g_im, None)[:3]
    by_x, by_norm = _ops.layer_norm_fast_backward(
        by_n, by_potential, grad if with_residual else None, x, p.norm_weight, p.norm_bias,
        p.potential_weight, potential, mean, rstd,
    )  # fmt: skip
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
