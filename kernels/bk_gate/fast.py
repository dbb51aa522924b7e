"""BK hyperbolic integration, fused: one launch forward, one backward, two each where rows are long.

Saved for backward: the inputs, and 8 bytes a channel for every 8 tokens.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from ..bk_scan.responses import ADJOINT, RESPONSE
from ..device_limits import require_triton_device
from ..segments import (
    WARP,
    Segmentation,
    chunked,
    maps_shape,
    require_float32,
    segmentation,
    with_unit_stride,
)
from ..versions import UnsupportedVersionError
from .gated import gate_backward, gate_forward
from .maps import gate_adjoint_maps, gate_maps
from .reference import ENERGY

TOKENS = 8
"""Tokens a group: loaded at once, and one resolvent is saved a group.

With 16 a channel would keep half as much, but Triton takes 32 s to compile the backward kernel, not 5 s (its
coalescing pass is cubic in the unrolled loads), and the group's replay takes 178 registers a thread, not 96.
"""

_COMPUTE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_SEGMENTS_FORWARD = 16
_SEGMENTS_BACKWARD = (
    8  # 8 warps; a thread's replay takes up to 128 registers, so 16 would fill a multiprocessor
)
# Tokens of a chunk, each way, and chunks at most: at d = 512 and 32768 tokens 128 programs of 16 warps
# forward, of which a multiprocessor of an H200 holds one, and 256 of 8 backward
_CHUNK = 2048
_CHUNKS = 32
# A segment more makes a kernel read and replay its inputs twice: only until a GPU is reasonably full. The
# backward kernel replays more, so it is content with fewer lanes.
_WANTED_LANES_FORWARD = 1 << 16
_WANTED_LANES_BACKWARD = 1 << 14


def forward_configuration(batch: int, n_seq: int, d_model: int) -> Segmentation:
    """How the forward kernel cuts B·d chains; two channels a thread: 4-byte loads at 16 bits."""
    wanted = triton.next_power_of_2(-(-_WANTED_LANES_FORWARD // (batch * d_model)))
    return _cut(n_seq, wanted, _SEGMENTS_FORWARD, chains_per_thread=2)


def backward_configuration(batch: int, n_seq: int, d_model: int) -> Segmentation:
    """How the backward kernel cuts them; one channel a thread: a group's replay fills the registers."""
    wanted = triton.next_power_of_2(-(-_WANTED_LANES_BACKWARD // (batch * d_model)))
    return _cut(n_seq, wanted, _SEGMENTS_BACKWARD, chains_per_thread=1)


def _cut(n_seq: int, wanted: int, segments: int, *, chains_per_thread: int) -> Segmentation:
    """A long row in chunks of `segments` segments, a short one in as many segments as are wanted, at most."""
    sizes = {"block": chains_per_thread * WARP, "tokens": TOKENS, "chains_per_thread": chains_per_thread}
    long = _long_rows(n_seq, segments, **sizes)
    return long or segmentation(n_seq, segments=min(wanted, segments), **sizes)


def _long_rows(n_seq: int, segments: int, **sizes: int) -> Segmentation | None:
    """The chunks of a row that is long enough for them."""
    sizes = {"block": WARP, "tokens": TOKENS} | sizes
    return chunked(n_seq, segments=segments, length=_CHUNK // segments, most=_CHUNKS, **sizes)


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


def _grid(h: Tensor, cut: Segmentation) -> tuple[int, int, int]:
    return -(-h.shape[2] // cut.block), h.shape[0], cut.chunks


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()[:2]]


def _constants(cut: Segmentation) -> dict[str, Any]:
    return {
        "ENERGY_RE": ENERGY[0],
        "ENERGY_IM": ENERGY[1],
        "SEGMENTS": cut.segments,
        "BLOCK": cut.block,
        "TOKENS": TOKENS,
        "num_warps": cut.num_warps,
    }


def _new_outputs(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, n_seq, d_model = h.shape
    cut = _long_rows(n_seq, _SEGMENTS_FORWARD)
    shapes = (_entering_shape(h), maps_shape(cut, batch, RESPONSE, d_model))
    entering, scratch = (h.new_empty(shape, dtype=torch.float32) for shape in shapes)
    return h.new_empty(h.shape), entering, scratch


def _new_gradients(h: Tensor, abc: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, n_seq, d_model = h.shape
    cut = _long_rows(n_seq, _SEGMENTS_BACKWARD)
    chunks = 1 if cut is None else cut.chunks
    shapes = (3, chunks, batch, d_model), maps_shape(cut, batch, ADJOINT, d_model)
    grad_gate, scratch = (h.new_empty(shape, dtype=torch.float32) for shape in shapes)
    return h.new_empty(h.shape), abc.new_empty(abc.shape), grad_gate, scratch


@torch.library.custom_op(
    "phase8::bk_gate_fast",
    mutates_args=(),
    schema="(Tensor h, Tensor abc, Tensor weight, Tensor bias) -> (Tensor, Tensor, Tensor)",
)
def _forward(h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gated h, the resolvents entering every group of tokens [B, groups, 2, d] float32, and the scratch
    of the kernels: the maps of segments."""
    h, abc = with_unit_stride(h), with_unit_stride(abc)
    out, entering, maps = outputs = _new_outputs(h)
    cut = forward_configuration(*h.shape)
    sizes, constants = (*h.shape[1:], cut.length), _constants(cut)
    if cut.chunks > 1:
        gate_maps[_grid(h, cut)](abc, maps, *sizes, *_strides(abc), **constants)
    gate_forward[_grid(h, cut)](
        h, abc, weight.contiguous(), bias, maps, out, entering, *sizes, *_strides(h, abc),
        CHUNKED=cut.chunks > 1, **constants,
    )  # fmt: skip
    return outputs


@_forward.register_fake
def _(h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _new_outputs(h)


@torch.library.custom_op(
    "phase8::bk_gate_fast_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor h, Tensor abc, Tensor weight, Tensor bias, Tensor entering)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor, h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor, entering: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of h, of abc, and of (w_0, w_1, bias) by chain [3, chunks, B, d] float32; the maps of
    segments."""
    h, abc = with_unit_stride(h), with_unit_stride(abc)
    grad_h, grad_abc, grad_gate, maps = gradients = _new_gradients(h, abc)
    cut = backward_configuration(*h.shape)
    inputs = (grad.contiguous(), h, abc, weight.contiguous(), bias, entering, maps)
    sizes, constants = (*h.shape[1:], cut.length, *_strides(h, abc)), _constants(cut)
    if cut.chunks > 1:
        gate_adjoint_maps[_grid(h, cut)](*inputs, *sizes, **constants)
    gate_backward[_grid(h, cut)](
        *inputs, grad_h, grad_abc, grad_gate, *sizes, CHUNKED=cut.chunks > 1, **constants
    )  # fmt: skip
    return gradients


@_backward.register_fake
def _(
    grad: Tensor, h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor, entering: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _new_gradients(h, abc)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs, output[1])


def _differentiate(ctx: Any, grad: Tensor, *_: Tensor) -> Any:
    grad_h, grad_abc, by_chain, _maps = _backward(grad, *ctx.saved_tensors)
    grad_gate = by_chain.flatten(1).sum(1)
    return grad_h, grad_abc, grad_gate[:2], grad_gate[2]


_forward.register_autograd(_differentiate, setup_context=_setup_context)
