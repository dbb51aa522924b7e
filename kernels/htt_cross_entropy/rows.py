# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
"""Row kernels of the loss: softmax gradient in place, sums of partial products, the upstream factor.

softmax_gradient is bound by memory: the chunk's logits are read from HBM once (the second pass finds its row,
100 KB, in cache) and written once, 202 KB a token at V = 50257, 47 ns at 4.3 TB/s.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096
_SUM_BLOCK = 1024


@triton.jit
def valid_columns(column, VOCAB, V2, WIDTH: tl.constexpr):
    """Which columns are entries of the vocabulary: each of v1 rows of v2 entries is WIDTH columns wide."""
    within = column % WIDTH
    return (within < V2) & (column // WIDTH * V2 + within < VOCAB)


@triton.jit
def softmax_gradient_kernel(
    logits, targets, losses, COLUMNS, VOCAB, V2, SCALE,
    WIDTH: tl.constexpr, WRITE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """losses[t] = logsumexp(l_t) − l_t[target]; in place l_t ← SCALE · (softmax(l_t) − onehot), padding ← 0.

    Loads are masked by COLUMNS, a multiple of 256, and not by the vocabulary: so they stay vectors.
    """
    t = tl.program_id(0)
    row = logits + t.to(tl.int64) * COLUMNS
    target = tl.load(targets + t)
    exists = (target >= 0) & (target < VOCAB)
    target_column = target // V2 * WIDTH + target % V2
    # A target that does not exist makes the loss NaN: nothing is read out of bounds, and nobody overlooks it
    chosen = tl.load(row + target_column, mask=exists, other=float("nan")).to(tl.float32)
    top = -float("inf")
    total = 0.0
    for start in range(0, COLUMNS, BLOCK):
        column = start + tl.arange(0, BLOCK)
        valid = valid_columns(column, VOCAB, V2, WIDTH)
        x = tl.load(row + column, mask=column < COLUMNS, other=0.0).to(tl.float32)
        x = tl.where(valid, x, -float("inf"))
        new_top = tl.maximum(top, tl.max(x, 0))
        shift = tl.where(new_top == -float("inf"), 0.0, new_top)  # a block of padding only, before any entry
        total = total * tl.exp(top - shift) + tl.sum(tl.exp(x - shift), 0)
        top = new_top
    lse = top + tl.log(total)
    tl.store(losses + t, lse - chosen)
    if WRITE:
        for start in range(0, COLUMNS, BLOCK):
            column = start + tl.arange(0, BLOCK)
            valid = valid_columns(column, VOCAB, V2, WIDTH)
            x = tl.load(row + column, mask=column < COLUMNS, other=0.0).to(tl.float32)
            gradient = tl.exp(x - lse) - tl.where(column == target_column, 1.0, 0.0)
            gradient = tl.where(valid, gradient * SCALE, 0.0)
            tl.store(row + column, gradient.to(logits.dtype.element_ty), mask=column < COLUMNS)


@triton.jit
def sum_parts_kernel(
    parts, row_scale, out, SIZE, D, SCALE,
    PARTS: tl.constexpr, WITH_ROW_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[t, e] = SCALE · row_scale[t] · Σ_s parts[s, t, e], in out's dtype; SIZE = tokens · D."""
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < SIZE
    total = tl.zeros([BLOCK], tl.float32)
    for part in range(PARTS):
        total += tl.load(parts + part * SIZE + offset, mask=mask, other=0.0)
    if WITH_ROW_SCALE:
        total *= tl.load(row_scale + offset // D, mask=mask, other=0.0)
    tl.store(out + offset, (total * SCALE).to(out.dtype.element_ty), mask=mask)


@triton.jit
def scale_kernel(x, factor, out, SIZE, CONSTANT, BLOCK: tl.constexpr):
    """out = x · factor · CONSTANT with the product in float32; factor: a float32 scalar on the device."""
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < SIZE
    scaled = tl.load(x + offset, mask=mask, other=0.0).to(tl.float32) * (tl.load(factor) * CONSTANT)
    tl.store(out + offset, scaled.to(out.dtype.element_ty), mask=mask)


def softmax_gradient(
    logits: Tensor,
    targets: Tensor,
    losses: Tensor,
    *,
    vocab_size: int,
    v2: int,
    width: int,
    scale: float,
    write: bool,
) -> None:
    """Loss of every row of logits [n, columns]; with write, logits become scale · (softmax − onehot).

    width: columns that one row of v2 vocabulary entries takes (v2 itself where rows are not padded).
    """
    softmax_gradient_kernel[(logits.shape[0],)](
        logits, targets, losses, logits.shape[1], vocab_size, v2, scale,
        WIDTH=width, WRITE=write, BLOCK=min(_BLOCK, triton.next_power_of_2(logits.shape[1])), num_warps=8,
    )  # fmt: skip


def sum_parts(parts: Tensor, out: Tensor, *, scale: float = 1.0, row_scale: Tensor | None = None) -> None:
    """out [n, d] = scale · row_scale [n] · Σ_s parts [s, n, d]."""
    sum_parts_kernel[(triton.cdiv(out.numel(), _SUM_BLOCK),)](
        parts, parts if row_scale is None else row_scale, out, out.numel(), out.shape[1], scale,
        PARTS=parts.shape[0], WITH_ROW_SCALE=row_scale is not None, BLOCK=_SUM_BLOCK, num_warps=4,
    )  # fmt: skip


def scaled(x: Tensor, factor: Tensor, constant: float) -> Tensor:
    """x · factor · constant in x's dtype, the product in float32; factor: a float32 scalar tensor.

    torch.mul would round the factor to x's dtype first.
    """
    out = torch.empty_like(x)
    if x.numel():
        scale_kernel[(triton.cdiv(x.numel(), _SUM_BLOCK),)](
            x, factor, out, x.numel(), constant, BLOCK=_SUM_BLOCK, num_warps=4
        )
    return out
