"""AR-SSM scan, fused: gates, scan and product in one launch each way. Saves only its inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..segments import Segmentation, segmentation, with_unit_stride
from .decayed import gated_backward, gated_forward
from .operator import TOKENS, channel_block, require_supported

_MAX_SEGMENTS = 64  # 64 segments of 64 tokens at the longest sequence, 4096


def configuration(n_seq: int, rank: int) -> Segmentation:
    """How a program of either kernel cuts its row."""
    return segmentation(n_seq, segments=_MAX_SEGMENTS, block=channel_block(rank), tokens=TOKENS)


def ar_ssm_scan(gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    """(a ⊙ v) ⊙ s, arguments and result as in `reference.ar_ssm_scan`; no gradient for decay.

    Raises: UnsupportedVersionError for float64, for mixed dtypes, for a decay that requires a gradient,
    and for a CPU without Triton's interpreter.
    """
    require_supported("fast", gate_logits, u, v, decay)
    out: Tensor = _forward(gate_logits, u, v, decay)
    return out


def scan_backward(
    grad: Tensor, gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor, grad_u: Tensor, grad_v: Tensor
) -> tuple[Tensor, Tensor]:
    """Writes the gradients of u and v, both [B, N, R] with the same strides, the last dimension contiguous.

    Returns the gradient of gate_logits and the scratch of the kernel: the states, float32.
    """
    by_logits, states = u.new_empty(u.shape), u.new_empty(u.shape, dtype=torch.float32)
    _launch(
        gated_backward, (gate_logits, u, v, decay), (grad.contiguous(),),
        (by_logits, states, grad_u, grad_v), grad_u.stride()[:2],
    )  # fmt: skip
    return by_logits, states


def _launch(
    kernel: Any, inputs: tuple[Tensor, ...], before: tuple[Tensor, ...], after: Any, more_strides: Any = ()
) -> None:
    gate_logits, u, v, decay = inputs
    gate_logits, u, v = (with_unit_stride(x) for x in (gate_logits, u, v))
    batch, n_seq, rank = u.shape
    cut = configuration(n_seq, rank)
    strides = [stride for x in (gate_logits, u, v) for stride in x.stride()[:2]]
    kernel[(-(-rank // cut.block), batch)](
        *before,
        gate_logits,
        u,
        v,
        decay.contiguous(),
        *after,
        n_seq,
        rank,
        cut.length,
        *strides,
        *more_strides,
        SEGMENTS=cut.segments,
        BLOCK=cut.block,
        TOKENS=TOKENS,
        num_warps=cut.num_warps,
    )


@torch.library.custom_op(
    "phase8::ar_ssm_scan_fast",
    mutates_args=(),
    schema="(Tensor gate_logits, Tensor u, Tensor v, Tensor decay) -> Tensor",
)
def _forward(gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    out = u.new_empty(u.shape)
    _launch(gated_forward, (gate_logits, u, v, decay), (), (out,))
    return out


@_forward.register_fake
def _(gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    return u.new_empty(u.shape)


@torch.library.custom_op(
    "phase8::ar_ssm_scan_fast_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor gate_logits, Tensor u, Tensor v, Tensor decay)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor, gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of gate_logits, u and v, and the scratch of the kernel: the states, float32."""
    grad_u, grad_v = u.new_empty(u.shape), u.new_empty(u.shape)
    by_logits, states = scan_backward(grad, gate_logits, u, v, decay, grad_u, grad_v)
    return by_logits, grad_u, grad_v, states


@_backward.register_fake
def _(
    grad: Tensor, gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    states = u.new_empty(u.shape, dtype=torch.float32)
    return u.new_empty(u.shape), u.new_empty(u.shape), u.new_empty(u.shape), states


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor) -> Any:
    grad_gate_logits, grad_u, grad_v, _ = _backward(grad, *ctx.saved_tensors)
    return grad_gate_logits, grad_u, grad_v, None


_forward.register_autograd(_differentiate, setup_context=_setup_context)
