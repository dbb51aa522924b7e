# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
"""Kernels of the factored head: the products along d1, which are too narrow for a library's.

With Hm [d1, d2] the folded hidden state and L [v1·r, d1] = cos φ · core1,
    A[t, (i1, k), b] = Σ_a L[(i1, k), a] · Hm_t[a, b]
makes the logits a product of A [T·v1, r·d2] with core2 [v2, r·d2]ᵀ. b is padded to a multiple of 8, zeros, so
that rows stay aligned. 2·v1·r·d1·d2 FLOP a token each, 3.8 MFLOP at small; bound by A, 2·v1·r·d2 bytes, which
a chunk keeps in L2.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .table import block

_SPAN_BYTES = 256  # of (token, b) side by side in a row of a tile: four tokens at d2 ≤ 32 in 16 bits
_TILE_BYTES = 8192  # of a tile of L


@triton.jit
def left_product_kernel(
    h, left, out, N, ROWS, STRIDE_H, D,
    D1: tl.constexpr, D2: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """out[t, j, b] = Σ_a left[j, a] · h[t, a·d2 + b], 0 for d2 ≤ b < PADDED; TOKENS tokens a program."""
    j = tl.program_id(0) * BLOCK_J + tl.arange(0, BLOCK_J)
    a, column = tl.arange(0, BLOCK_A), tl.arange(0, TOKENS * BLOCK_B)
    t, b = tl.program_id(1) * TOKENS + column // BLOCK_B, column % BLOCK_B
    factor = tl.load(
        left + j[:, None] * D1 + a[None, :], mask=(j < ROWS)[:, None] & (a < D1)[None, :], other=0.0
    )
    x = folded(h, t, a, b, N, STRIDE_H, D, D1, D2)
    product = tl.dot(factor, x, input_precision=PRECISION).to(out.dtype.element_ty)
    at = out + (t.to(tl.int64)[None, :] * ROWS + j[:, None]) * PADDED + b[None, :]
    tl.store(at, product, mask=(j < ROWS)[:, None] & ((t < N) & (b < PADDED))[None, :])


@triton.jit
def folded(h, t, a, b, N, STRIDE_H, D, D1: tl.constexpr, D2: tl.constexpr):
    """Tile [a, (t, b)] of the folded hidden states."""
    entry = a[:, None] * D2 + b[None, :]
    mask = ((t < N) & (b < D2))[None, :] & (a < D1)[:, None] & (entry < D)
    return tl.load(h + t.to(tl.int64)[None, :] * STRIDE_H + entry, mask=mask, other=0.0)


@triton.jit
def hidden_gradient_kernel(
    grad, left, out, N, ROWS, D, SCALE,
    D1: tl.constexpr, D2: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """out[t, a·d2 + b] = SCALE · Σ_j left[j, a] · grad[t, j, b]."""
    a, column = tl.arange(0, BLOCK_A), tl.arange(0, TOKENS * BLOCK_B)
    t, b = tl.program_id(0) * TOKENS + column // BLOCK_B, column % BLOCK_B
    inside = (t < N) & (b < D2)
    total = tl.zeros([BLOCK_A, TOKENS * BLOCK_B], tl.float32)
    for start in range(0, ROWS, BLOCK_J):
        j = start + tl.arange(0, BLOCK_J)
        factor = tl.load(
            left + j[None, :] * D1 + a[:, None], mask=(j < ROWS)[None, :] & (a < D1)[:, None], other=0.0
        )
        at = grad + (t.to(tl.int64)[None, :] * ROWS + j[:, None]) * PADDED + b[None, :]
        x = tl.load(at, mask=(j < ROWS)[:, None] & inside[None, :], other=0.0)
        total = tl.dot(factor, x, total, input_precision=PRECISION)
    entry = a[:, None] * D2 + b[None, :]
    stored = inside[None, :] & (a < D1)[:, None] & (entry < D)
    tl.store(out + t.to(tl.int64)[None, :] * D + entry, (total * SCALE).to(out.dtype.element_ty), mask=stored)


@triton.jit
def left_gradient_kernel(
    grad, h, out, N, ROWS, STRIDE_H, D, PER_PART,
    D1: tl.constexpr, D2: tl.constexpr, PADDED: tl.constexpr, PRECISION: tl.constexpr, ADD: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_A: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """out[part, j, a] = or += Σ_{t in part, b} grad[t, j, b] · h[t, a·d2 + b], in float32."""
    part = tl.program_id(1)
    j = tl.program_id(0) * BLOCK_J + tl.arange(0, BLOCK_J)
    a, column = tl.arange(0, BLOCK_A), tl.arange(0, TOKENS * BLOCK_B)
    b = column % BLOCK_B
    at_out = out + (part * ROWS + j)[:, None] * D1 + a[None, :]
    stored = (j < ROWS)[:, None] & (a < D1)[None, :]
    total = tl.zeros([BLOCK_J, BLOCK_A], tl.float32)
    if ADD:
        total = tl.load(at_out, mask=stored, other=0.0)
    end = tl.minimum((part + 1) * PER_PART, N)
    for start in range(part * PER_PART, end, TOKENS):
        t = start + column // BLOCK_B
        at = grad + (t.to(tl.int64)[None, :] * ROWS + j[:, None]) * PADDED + b[None, :]
        x = tl.load(at, mask=(j < ROWS)[:, None] & ((t < end) & (b < D2))[None, :], other=0.0)
        y = folded(h, t, a, b, end, STRIDE_H, D, D1, D2)
        total = tl.dot(x, tl.trans(y), total, input_precision=PRECISION)
    tl.store(at_out, total, mask=stored)


def left_product(h: Tensor, left: Tensor, out: Tensor, d2: int) -> None:
    """out [n, v1·r, padded] = left [v1·r, d1] times each folded row of h [n, d]; all in one dtype."""
    n, rows, padded = out.shape
    options = blocks(left.shape[1], padded, out.element_size())
    grid = (triton.cdiv(rows, options["BLOCK_J"]), triton.cdiv(n, options["TOKENS"]))
    left_product_kernel[grid](
        h, left, out, n, rows, h.stride(0), h.shape[1],
        D1=left.shape[1], D2=d2, PADDED=padded, PRECISION=_precision(h), **options,
    )  # fmt: skip


def hidden_gradient(grad: Tensor, left: Tensor, out: Tensor, d2: int, scale: float) -> None:
    """out [n, d] = scale · leftᵀ times each grad [n, v1·r, padded]."""
    n, rows, padded = grad.shape
    options = blocks(left.shape[1], padded, grad.element_size())
    hidden_gradient_kernel[(triton.cdiv(n, options["TOKENS"]),)](
        grad, left, out, n, rows, out.shape[1], scale,
        D1=left.shape[1], D2=d2, PADDED=padded, PRECISION=_precision(grad), **options,
    )  # fmt: skip


def left_gradient(grad: Tensor, h: Tensor, out: Tensor, d2: int, *, first: bool) -> None:
    """out [parts, v1·r, d1] = or += gradient of left over the tokens of each part of the chunk."""
    n, rows, padded = grad.shape
    options = blocks(out.shape[2], padded, grad.element_size())
    parts = out.shape[0]
    per_part = triton.cdiv(triton.cdiv(n, parts), options["TOKENS"]) * options["TOKENS"]
    left_gradient_kernel[(triton.cdiv(rows, options["BLOCK_J"]), parts)](
        grad, h, out, n, rows, h.stride(0), h.shape[1], per_part,
        D1=out.shape[2], D2=d2, PADDED=padded, PRECISION=_precision(grad), ADD=not first, **options,
    )  # fmt: skip


def blocks(d1: int, padded: int, item_bytes: int) -> dict[str, int]:
    """Launch options of all three kernels: what a multiprocessor of any supported GPU holds."""
    block_a, block_b = block(d1), block(padded)
    span = _SPAN_BYTES // item_bytes
    return {
        "TOKENS": max(span // block_b, 1),
        "BLOCK_J": max(min(_TILE_BYTES // item_bytes // block_a, span), 16),
        "BLOCK_A": block_a,
        "BLOCK_B": block_b,
        "num_warps": 8,
        "num_stages": 2 if item_bytes == 2 else 1,
    }


def _precision(x: Tensor) -> str:
    return "ieee" if x.element_size() == 4 else "tf32"
