"""AR-SSM scan, fused: gates, scan and product in one launch each way, two where rows are long. Saves only its
inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..segments import Segmentation, maps_shape, with_unit_stride
from . import operator
from .decayed import gated_backward, gated_forward
from .maps import gated_backward_maps, gated_maps

_FORWARD, _BACKWARD = 2, 3
"""Numbers of a segment's map: the factor, the state, and backward the adjoint."""


def ar_ssm_scan(gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    """(a ⊙ v) ⊙ s, arguments and result as in `reference.ar_ssm_scan`; no gradient for decay.

    Raises: UnsupportedVersionError for float64, for mixed dtypes, for a decay that requires a gradient,
    and for a CPU without Triton's interpreter.
    """
    operator.require_supported("fast", gate_logits, u, v, decay)
    out: Tensor = _forward(gate_logits, u, v, decay)[0]
    return out


def scan_backward(
    grad: Tensor, gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor, grad_u: Tensor, grad_v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Writes the gradients of u and v, both [B, N, R] with the same strides, the last dimension contiguous.

    Returns the gradient of gate_logits and the scratch of the kernels: the states, float32, and the maps.
    """
    by_logits, states = u.new_empty(u.shape), u.new_empty(u.shape, dtype=torch.float32)
    maps, grad = _new_maps(u, _BACKWARD), grad.contiguous()
    cut, grid, sizes = _cut(u)
    gate_logits, u, v = (with_unit_stride(x) for x in (gate_logits, u, v))
    inputs, strides = (grad, gate_logits, u, v, decay.contiguous(), maps), _strides(gate_logits, u, v)
    if cut.chunks > 1:
        gated_backward_maps[grid](*inputs, *sizes, *strides, **operator.scan_constants(cut))
    gated_backward[grid](
        *inputs, by_logits, states, grad_u, grad_v, *sizes, *strides, *grad_u.stride()[:2],
        CHUNKED=cut.chunks > 1, **operator.scan_constants(cut),
    )  # fmt: skip
    return by_logits, states, maps


def _cut(u: Tensor) -> tuple[Segmentation, tuple[int, int, int], tuple[int, int, int]]:
    """How rows are cut, the grid of every kernel, and the sizes it takes."""
    batch, n_seq, rank = u.shape
    cut = operator.configuration(n_seq, rank)
    return cut, operator.scan_grid(cut, batch, rank), (n_seq, rank, cut.length)


def _new_maps(u: Tensor, numbers: int) -> Tensor:
    batch, n_seq, rank = u.shape
    shape = maps_shape(operator.long_rows(n_seq, rank), batch, numbers, rank)
    return u.new_empty(shape, dtype=torch.float32)


def _strides(*tensors: Tensor) -> list[int]:
    """Of each tensor [B, N, R]: the strides of a row and of a token."""
    return [stride for x in tensors for stride in x.stride()[:2]]


@torch.library.custom_op(
    "phase8::ar_ssm_scan_fast",
    mutates_args=(),
    schema="(Tensor gate_logits, Tensor u, Tensor v, Tensor decay) -> (Tensor, Tensor)",
)
def _forward(gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """The result, and the scratch of the kernels: the maps of segments."""
    out, maps = u.new_empty(u.shape), _new_maps(u, _FORWARD)
    cut, grid, sizes = _cut(u)
    gate_logits, u, v, decay = *(with_unit_stride(x) for x in (gate_logits, u, v)), decay.contiguous()
    if cut.chunks > 1:
        gated_maps[grid](
            gate_logits, u, decay, maps, *sizes, *_strides(gate_logits, u), **operator.scan_constants(cut)
        )
    gated_forward[grid](
        gate_logits, u, v, decay, maps, out, *sizes, *_strides(gate_logits, u, v),
        CHUNKED=cut.chunks > 1, **operator.scan_constants(cut),
    )  # fmt: skip
    return out, maps


@_forward.register_fake
def _(gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), _new_maps(u, _FORWARD)


@torch.library.custom_op(
    "phase8::ar_ssm_scan_fast_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor gate_logits, Tensor u, Tensor v, Tensor decay)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor, gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of gate_logits, u and v, and the scratch of the kernels: states and maps, float32."""
    grad_u, grad_v = u.new_empty(u.shape), u.new_empty(u.shape)
    by_logits, states, maps = scan_backward(grad, gate_logits, u, v, decay, grad_u, grad_v)
    return by_logits, grad_u, grad_v, states, maps


@_backward.register_fake
def _(
    grad: Tensor, gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    states = u.new_empty(u.shape, dtype=torch.float32)
    of_inputs = (u.new_empty(u.shape), u.new_empty(u.shape), u.new_empty(u.shape))
    return *of_inputs, states, _new_maps(u, _BACKWARD)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> Any:
    grad_gate_logits, grad_u, grad_v, *_scratch = _backward(grad, *ctx.saved_tensors)
    return grad_gate_logits, grad_u, grad_v, None


_forward.register_autograd(_differentiate, setup_context=_setup_context)
