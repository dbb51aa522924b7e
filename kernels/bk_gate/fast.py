"""BK hyperbolic integration, fused: one launch forward, one backward.

Saved for backward: the inputs, and 8 bytes a channel for every 8 tokens.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from ..device_limits import require_triton_device
from ..segments import WARP, Segmentation, require_float32, segmentation, with_unit_stride
from ..versions import UnsupportedVersionError
from .gated import gate_backward, gate_forward
from .reference import ENERGY

TOKENS = 8
"""Tokens a group: loaded at once, and one resolvent is saved a group.

With 16 a channel would keep half as much, but Triton takes 32 s to compile the backward kernel, not 5 s (its
coalescing pass is cubic in the unrolled loads), and the group's replay takes 178 registers a thread, not 96.
"""

_COMPUTE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_SEGMENTS_FORWARD = 16
_MAX_SEGMENTS_BACKWARD = (
    8  # 8 warps; a thread's replay takes up to 128 registers, so 16 would fill a multiprocessor
)
# A segment more makes a kernel read and replay its inputs twice: only until a GPU is reasonably full. The
# backward kernel replays more, so it is content with fewer lanes.
_WANTED_LANES_FORWARD = 1 << 16
_WANTED_LANES_BACKWARD = 1 << 14


def forward_configuration(batch: int, n_seq: int, d_model: int) -> Segmentation:
    """How the forward kernel cuts B·d chains; two channels a thread: 4-byte loads at 16 bits."""
    wanted = triton.next_power_of_2(-(-_WANTED_LANES_FORWARD // (batch * d_model)))
    segments = min(wanted, _MAX_SEGMENTS_FORWARD)
    return segmentation(n_seq, segments=segments, block=2 * WARP, tokens=TOKENS, chains_per_thread=2)


def backward_configuration(batch: int, n_seq: int, d_model: int) -> Segmentation:
    """How the backward kernel cuts them; one channel a thread: a group's replay fills the registers."""
    wanted = triton.next_power_of_2(-(-_WANTED_LANES_BACKWARD // (batch * d_model)))
    segments = min(wanted, _MAX_SEGMENTS_BACKWARD)
    return segmentation(n_seq, segments=segments, block=WARP, tokens=TOKENS)


def bk_gate(h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """h ⊙ (1 + sigmoid(w·[Re G, Im G] + b)), arguments and result as in `reference.bk_gate`.

    h and abc in one of float32, float16, bfloat16; weight and bias float32.
    Raises: UnsupportedVersionError for other dtypes and for a CPU without Triton's interpreter.
    """
    require_triton_device(h, "bk_gate fast")
    require_float32("bk_gate", "fast", weight=weight, bias=bias)
    if h.dtype not in _COMPUTE_DTYPES or abc.dtype != h.dtype:
        raise UnsupportedVersionError(
            "bk_gate fast: expected h and abc in the same of float32, float16 and bfloat16, "
            f"got {h.dtype} and {abc.dtype}; version 'reference' takes them"
        )
    out: Tensor = _forward(h, abc, weight, bias)[0]
    return out


def _entering_shape(h: Tensor) -> tuple[int, int, int, int]:
    return h.shape[0], (h.shape[1] + TOKENS - 1) // TOKENS, 2, h.shape[2]


def _sizes(h: Tensor, abc: Tensor, cut: Segmentation) -> tuple[int, ...]:
    return h.shape[1], h.shape[2], cut.length, h.stride(0), h.stride(1), abc.stride(0), abc.stride(1)


def _constants(cut: Segmentation) -> dict[str, Any]:
    return {
        "ENERGY_RE": ENERGY[0],
        "ENERGY_IM": ENERGY[1],
        "SEGMENTS": cut.segments,
        "BLOCK": cut.block,
        "TOKENS": TOKENS,
        "num_warps": cut.num_warps,
    }


@torch.library.custom_op(
    "phase8::bk_gate_fast",
    mutates_args=(),
    schema="(Tensor h, Tensor abc, Tensor weight, Tensor bias) -> (Tensor, Tensor)",
)
def _forward(h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The gated h, and the resolvents entering every group of tokens [B, groups, 2, d] float32."""
    h, abc = with_unit_stride(h), with_unit_stride(abc)
    batch, n_seq, d_model = h.shape
    out = h.new_empty(h.shape)
    entering = h.new_empty(_entering_shape(h), dtype=torch.float32)
    cut = forward_configuration(batch, n_seq, d_model)
    gate_forward[(-(-d_model // cut.block), batch)](
        h, abc, weight.contiguous(), bias, out, entering, *_sizes(h, abc, cut), **_constants(cut)
    )
    return out, entering


@_forward.register_fake
def _(h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return h.new_empty(h.shape), h.new_empty(_entering_shape(h), dtype=torch.float32)


@torch.library.custom_op(
    "phase8::bk_gate_fast_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor h, Tensor abc, Tensor weight, Tensor bias, Tensor entering)"
    " -> (Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor, h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor, entering: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of h, of abc, and of (w_0, w_1, bias) by chain [3, B, d] float32."""
    h, abc = with_unit_stride(h), with_unit_stride(abc)
    batch, n_seq, d_model = h.shape
    grad_h, grad_abc = h.new_empty(h.shape), abc.new_empty(abc.shape)
    grad_gate = entering.new_empty(3, batch, d_model)
    cut = backward_configuration(batch, n_seq, d_model)
    gate_backward[(-(-d_model // cut.block), batch)](
        grad.contiguous(),
        h,
        abc,
        weight.contiguous(),
        bias,
        entering,
        grad_h,
        grad_abc,
        grad_gate,
        *_sizes(h, abc, cut),
        **_constants(cut),
    )
    return grad_h, grad_abc, grad_gate


@_backward.register_fake
def _(
    grad: Tensor, h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor, entering: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    by_chain = entering.new_empty(3, h.shape[0], h.shape[2])
    return h.new_empty(h.shape), abc.new_empty(abc.shape), by_chain


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> Any:
    grad_h, grad_abc, by_chain = _backward(grad, *ctx.saved_tensors)
    grad_gate = by_chain.flatten(1).sum(1)
    return grad_h, grad_abc, grad_gate[:2], grad_gate[2]


_forward.register_autograd(_differentiate, setup_context=_setup_context)
