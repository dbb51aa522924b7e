"""What every version of the operation shares around its kernels: checks, fake implementations, autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..device_limits import require_triton_device
from ..versions import UnsupportedVersionError
from .blocks import power_of_two

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_DIM = 128

Outputs = tuple[Tensor, Tensor, Tensor]
"""out [B, N, H, D], lse [B, H, N] float32, radial factors of the rows (see `Scratch`)."""
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""dq, dk, dv [B, N, H, D]; shares of d curvature, d beta, d sink [3, programs] float32; Σ P·dP."""
Forward = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int], Outputs]
"""q, k, v, curvature, beta, sink, window."""
Backward = Callable[..., Gradients]
"""dO, q, k, v, curvature, beta, sink, *Outputs, window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scratch:
    """Numbers of float32 that a version keeps or passes on besides its results, from q and window.

    factors: forward to backward. shares: columns of the scalars' gradients. delta: the rows' Σ P·dP between
    two kernels of a backward. All are outputs of the operations, which allocate nothing else.
    """

    factors: Callable[[Tensor, int], int]
    shares: Callable[[Tensor, int], int]
    delta: Callable[[Tensor, int], int]


def define(version: str, forward: Forward, backward: Backward, scratch: Scratch) -> Callable[..., Tensor]:
    """Register `phase8::window_attention_<version>` and its backward; returns the differentiable function."""

    @torch.library.custom_op(f"phase8::window_attention_{version}", mutates_args=())
    def attention(
        q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor, window: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        _require(version, q, k, v, curvature, beta, sink, window)
        return forward(q, k, v, curvature, beta, sink, window)

    @attention.register_fake
    def _(
        q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor, window: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        return new_outputs(q, scratch, window)

    @torch.library.custom_op(f"phase8::window_attention_{version}_backward", mutates_args=())
    def attention_backward(
        d_out: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        curvature: Tensor,
        beta: Tensor,
        sink: Tensor,
        out: Tensor,
        lse: Tensor,
        factors: Tensor,
        window: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return backward(d_out, q, k, v, curvature, beta, sink, out, lse, factors, window)

    @attention_backward.register_fake
    def _(
        d_out: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        curvature: Tensor,
        beta: Tensor,
        sink: Tensor,
        out: Tensor,
        lse: Tensor,
        factors: Tensor,
        window: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return new_gradients(q, scratch, window)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
        *tensors, window = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.window = window
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    def differentiate(ctx: Any, d_out: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        if d_out is None:
            return (None,) * 7
        dq, dk, dv, shares, _delta = attention_backward(d_out.contiguous(), *ctx.saved_tensors, ctx.window)
        return dq, dk, dv, *shares.sum(1).unbind(), None

    attention.register_autograd(differentiate, setup_context=setup_context)

    def window_attention(
        q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor, window: int
    ) -> Tensor:
        """Softmax attention with scores −β·√D·dist(q_i, k_j), 0 ≤ i − j < window, and a valueless sink logit.

        q, k, v [B, N, H, D], D ≤ 128, read through their strides (the last dimension contiguous); curvature,
        beta, sink: 0-dim float32. Returns [B, N, H, D] contiguous in q's dtype.
        Raises: UnsupportedVersionError for a device, dtype, shape or window that this version cannot work on.
        """
        out, _lse, _factors = attention(q, k, v, curvature, beta, sink, window)
        result: Tensor = out
        return result

    return window_attention


def new_outputs(q: Tensor, scratch: Scratch, window: int) -> Outputs:
    """Unwritten outputs of a forward."""
    batch, n, heads, _ = q.shape
    return (
        q.new_empty(q.shape),
        q.new_empty((batch, heads, n), dtype=torch.float32),
        q.new_empty(scratch.factors(q, window), dtype=torch.float32),
    )


def new_gradients(q: Tensor, scratch: Scratch, window: int) -> Gradients:
    """Unwritten outputs of a backward."""
    return (
        q.new_empty(q.shape),
        q.new_empty(q.shape),
        q.new_empty(q.shape),
        q.new_empty((3, scratch.shares(q, window)), dtype=torch.float32),
        q.new_empty(scratch.delta(q, window), dtype=torch.float32),
    )


def strides(*tensors: Tensor) -> tuple[int, ...]:
    """Of each tensor [B, N, H, D]: the strides of batch, row and head."""
    return tuple(stride for x in tensors for stride in x.stride()[:3])


def sizes(q: Tensor) -> tuple[int, int]:
    """(N, H)."""
    return q.shape[1], q.shape[2]


def row_blocks(q: Tensor, block: int) -> int:
    """Blocks of rows, over all batches and heads."""
    batch, n, heads, _ = q.shape
    return -(-n // block) * batch * heads


def row_count(q: Tensor, window: int) -> int:
    """B·N·H: the size of a number a row, whatever the window."""
    return q.numel() // q.shape[3]


def constants(q: Tensor, window: int) -> dict[str, Any]:
    """What every kernel is compiled for."""
    dim = q.shape[3]
    return {"WINDOW": window, "D": dim, "BLOCK_D": power_of_two(dim), "ROOT_DIM": dim**0.5}


def _require(
    version: str, q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor, window: int
) -> None:
    name = f"window_attention version '{version}'"
    require_triton_device(q, name)
    if q.dim() != 4 or not q.shape == k.shape == v.shape or not q.dtype == k.dtype == v.dtype:
        kinds = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in (q, k, v))
        raise UnsupportedVersionError(f"{name}: expected q, k, v [B, N, H, D] alike, got {kinds}")
    if q.dtype not in _DTYPES:
        raise UnsupportedVersionError(
            f"{name}: expected float32, float16 or bfloat16, got {q.dtype}; version 'reference' takes it"
        )
    if q.shape[3] > _MAX_DIM:
        raise UnsupportedVersionError(
            f"{name}: expected at most {_MAX_DIM} features a head, got {q.shape[3]}; "
            "version 'reference' takes more"
        )
    if any(x.stride(3) != 1 and x.shape[3] > 1 for x in (q, k, v)):
        raise UnsupportedVersionError(f"{name}: expected q, k, v with a contiguous last dimension")
    if any(x.dim() != 0 or x.dtype != torch.float32 for x in (curvature, beta, sink)):
        raise UnsupportedVersionError(
            f"{name}: expected curvature, beta and sink as 0-dimensional float32 tensors"
        )
    if window < 1:
        raise UnsupportedVersionError(f"{name}: expected a window of at least 1, got {window}")
