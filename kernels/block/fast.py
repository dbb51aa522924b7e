"""The block as one operation, whose kernels are those of the operations (`passes`).

The gradient of the input product is one buffer that attention, scan and gate write their columns of, where
autograd concatenates six tensors; gradients of n and x are added inside a product and a kernel; gradients of
weights that are float32 leave cuBLAS so.

A token keeps x, the product, heads, local, ranked and the gate's logits (6.7 KB at d = 512 in 16 bits), and
attention's factors and some numbers a row (0.4 KB): n and the gate's hidden layer are computed again, 2 KB of
traffic a token. A step of small at 256×256 takes 40.4 ms on an H100; 43.1 with the operations one after the
other, which concatenate, copy, add and sum between them and keep 1.4 KB a token and layer more.

The selective form is another operation, which keeps x, the product, ranked and some numbers a row (4.6 KB):
heads, factors, local and logits follow from the product (kernels/README.md, "What is kept for the backward").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..ar_ssm_scan.operator import require_supported
from ..mix_norm.fast import split_packed
from ..window_attention.fast import SCRATCH
from ..window_attention.operation import new_outputs
from .passes import columns, run_backward, run_forward
from .tensors import Derived, Kept, Parameters, require_types

_KEPT, _ALL = len(Kept._fields), len(Kept._fields) + len(Derived._fields)


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
    is_selective: bool = False,
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
    operation = block_selective if is_selective else block_whole
    y, g_re, g_im, *_ = operation(x, list(parameters), n_heads, window, with_residual)
    return y, g_re, g_im


def _define(name: str, count: int) -> Callable[..., tuple[Tensor, ...]]:
    """Register a form of the operation: it returns y and the first `count` of `Kept` and `Derived`."""

    @torch.library.custom_op(
        name,
        mutates_args=(),
        schema="(Tensor x, Tensor[] parameters, int n_heads, int window, bool with_residual) -> ("
        + ", ".join(["Tensor"] * (1 + count))
        + ")",
    )
    def forward(
        x: Tensor, parameters: list[Tensor], n_heads: int, window: int, with_residual: bool
    ) -> tuple[Tensor, ...]:
        y, kept, derived = run_forward(x, Parameters(*parameters), n_heads, window, with_residual)
        return y, *(*kept, *derived)[:count]

    @forward.register_fake
    def _(
        x: Tensor, parameters: list[Tensor], n_heads: int, window: int, with_residual: bool
    ) -> tuple[Tensor, ...]:
        return x.new_empty(x.shape), *_unwritten(x, Parameters(*parameters), n_heads, window)[:count]

    forward.register_autograd(_differentiate, setup_context=_keep)
    return forward


def _unwritten(x: Tensor, p: Parameters, n_heads: int, window: int) -> tuple[Tensor, ...]:
    """What is `Kept`, and `Derived`."""
    tokens, rank = x.shape[:2], p.decay.shape[0]
    g_re, g_im, mix_mean, mix_rstd = (x.new_empty(tokens, dtype=torch.float32) for _ in range(4))
    product = x.new_empty((*tokens, p.in_weight.shape[0]))
    ranked, gate_logits = (x.new_empty((*tokens, rank)) for _ in range(2))
    heads, lse, factors = new_outputs(columns(product, p, n_heads)[0], SCRATCH, window)
    kept = Kept(g_re, g_im, product, ranked, mix_mean, mix_rstd)
    return *kept, *Derived(heads, lse, factors, x.new_empty(x.shape), gate_logits)


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
    """saved: what is `Kept`, and where it was left what is `Derived`."""
    kept, derived = Kept(*saved[:_KEPT]), saved[_KEPT:]
    del saved
    return run_backward(
        grad, grad_re, grad_im, x, Parameters(*parameters), kept, derived, n_heads, window, with_residual
    )


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
    saved = output[1:]
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


block_whole = _define("phase8::block_fast", _ALL)
block_selective = _define("phase8::block_fast_selective", _KEPT)
