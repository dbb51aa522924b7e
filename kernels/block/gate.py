# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""The AR-SSM's gate inside the fused block: its hidden layer, and what its gradient leaves, in one pass each.

A token's hidden layer (d/4 numbers) is not kept for the backward: it is computed again from the product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

_PROGRAMS = 528  # of the backward: four for each of Hopper's 132 multiprocessors; fixed: sums are the same
_NUMBERS = 4096  # of the hidden layer a program holds at once


@dataclass(frozen=True, kw_only=True, slots=True)
class GateTiles:
    """`rows` of `width` ≥ hidden and `ranks` ≥ R columns at once, powers of two, for `programs` programs."""

    rows: int
    width: int
    ranks: int
    programs: int


def gate_tiles(count: int, hidden: int, rank: int) -> GateTiles:
    """The tiles of the backward for `count` tokens."""
    width, ranks = triton.next_power_of_2(hidden), triton.next_power_of_2(rank)
    rows = max(1, _NUMBERS // max(width, ranks))
    return GateTiles(rows=rows, width=width, ranks=ranks, programs=min(_PROGRAMS, triton.cdiv(count, rows)))


def hidden_layer(projected: Tensor, bias: Tensor) -> Tensor:
    """relu(projected + bias): projected [T, hidden], rows of a wider product; bias float32. Contiguous."""
    count, hidden = projected.shape
    out = torch.empty((count, hidden), dtype=projected.dtype, device=projected.device)
    tiles = gate_tiles(count, hidden, 1)
    hidden_kernel[(triton.cdiv(count, tiles.rows),)](
        projected, bias, out, count, projected.stride(0),
        HIDDEN=hidden, ROWS=tiles.rows, WIDTH=tiles.width, num_warps=4,
    )  # fmt: skip
    return out


def hidden_gradient(by_hidden: Tensor, hidden: Tensor, by_logits: Tensor, by_projected: Tensor) -> Tensor:
    """The gradient before the relu, written to by_projected [T, hidden], rows of a wider tensor.

    by_hidden, hidden [T, hidden], by_logits [T, R] contiguous. Returns the sums over tokens of what was
    written and of by_logits, [hidden + R] float32: the gradients of both biases.
    """
    (count, width), rank = hidden.shape, by_logits.shape[1]
    tiles = gate_tiles(count, width, rank)
    sums = torch.empty((tiles.programs, width + rank), dtype=torch.float32, device=hidden.device)
    gradient_kernel[(tiles.programs,)](
        by_hidden, hidden, by_logits, by_projected, sums, count, by_projected.stride(0),
        HIDDEN=width, RANK=rank, ROWS=tiles.rows, WIDTH=tiles.width, RANKS=tiles.ranks, num_warps=4,
    )  # fmt: skip
    return sums.sum(0)


@triton.jit
def hidden_kernel(
    projected, bias, out, count, stride, HIDDEN: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    mask = (rows < count)[:, None] & (columns < HIDDEN)[None, :]
    x = tl.load(projected + rows[:, None] * stride + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    x += tl.load(bias + columns, mask=columns < HIDDEN, other=0.0)[None, :]
    # NaN stays NaN: a maximum would hide it
    result = tl.where(x <= 0.0, 0.0, x).to(out.dtype.element_ty)
    tl.store(out + rows[:, None] * HIDDEN + columns[None, :], result, mask=mask)


@triton.jit
def gradient_kernel(
    by_hidden, hidden, by_logits, by_projected, sums, count, stride,
    HIDDEN: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, RANKS: tl.constexpr,
):  # fmt: skip
    """sums [programs, HIDDEN + RANK]: of the gradient before the relu and of by_logits, over its tokens."""
    program = tl.program_id(0)
    columns, ranks = tl.arange(0, WIDTH), tl.arange(0, RANKS)
    sum_hidden = tl.zeros((ROWS, WIDTH), tl.float32)
    sum_logits = tl.zeros((ROWS, RANKS), tl.float32)
    for first in range(program * ROWS, count, tl.num_programs(0) * ROWS):
        rows = first + tl.arange(0, ROWS).to(tl.int64)
        mask = (rows < count)[:, None] & (columns < HIDDEN)[None, :]
        at = rows[:, None] * HIDDEN + columns[None, :]
        active = tl.load(hidden + at, mask=mask, other=0.0).to(tl.float32) > 0.0
        grad = tl.where(active, tl.load(by_hidden + at, mask=mask, other=0.0).to(tl.float32), 0.0)
        tl.store(
            by_projected + rows[:, None] * stride + columns[None, :],
            grad.to(by_projected.dtype.element_ty), mask=mask,
        )  # fmt: skip
        sum_hidden += grad
        of_logits = (rows < count)[:, None] & (ranks < RANK)[None, :]
        logits = tl.load(by_logits + rows[:, None] * RANK + ranks[None, :], mask=of_logits, other=0.0)
        sum_logits += logits.to(tl.float32)
    out = sums + program * (HIDDEN + RANK)
    tl.store(out + columns, tl.sum(sum_hidden, 0), mask=columns < HIDDEN)
    tl.store(out + HIDDEN + ranks, tl.sum(sum_logits, 0), mask=ranks < RANK)
