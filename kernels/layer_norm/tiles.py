"""Triton kernels of LayerNorm and the potential: whole rows in registers, one read of every tensor."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl

MAX_WIDTH = 8192
_PROGRAMS = (
    384  # of the backward: 3 fit a multiprocessor, 132 has Hopper; fixed: sums are the same on every GPU
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RowTiles:
    """How rows are dealt out: `rows` at a time, padded to `width` columns, to `programs` in the backward."""

    rows: int
    width: int
    warps: int
    programs: int


def row_tiles(count: int, d: int) -> RowTiles:
    """The tiles for `count` rows of d numbers.

    16 numbers of each tensor a thread: the backward keeps three sums of that size beside its operands, in 148
    registers without a spill (sm_86 and sm_90). Shared memory is needed for sums only: 8 KiB at most.
    """
    width = max(16, triton.next_power_of_2(d))
    warps = 4 if width <= 2048 else 8 if width <= 4096 else 16
    rows = max(1, min(8, warps * 32 * 16 // width))
    return RowTiles(rows=rows, width=width, warps=warps, programs=min(_PROGRAMS, triton.cdiv(count, rows)))


@triton.jit
def tanh(x):
    """tanh to float32's last digits: a series near 0, where the exponential form cancels."""
    square = x * x
    series = -1382.0 / 155925.0
    series = series * square + 62.0 / 2835.0
    series = series * square - 17.0 / 315.0
    series = series * square + 2.0 / 15.0
    series = series * square - 1.0 / 3.0
    near = x + x * square * series
    decay = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - decay) / (1.0 + decay)
    return tl.where(tl.abs(x) < 0.25, near, tl.where(x < 0.0, -far, far))


@triton.jit
def forward_kernel(
    x, weight, bias, potential_weight, potential_bias, n, potential, mean, rstd,
    count, x_stride,
    D: tl.constexpr, EPS: tl.constexpr, V_MAX: tl.constexpr, HAS_POTENTIAL: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    row_mask, column_mask = rows < count, columns < D
    mask = row_mask[:, None] & column_mask[None, :]
    tile = tl.load(x + rows[:, None] * x_stride + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    center = tl.sum(tile, 1) / D
    deviation = tl.where(column_mask[None, :], tile - center[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(deviation * deviation, 1) / D + EPS)
    w = tl.load(weight + columns, mask=column_mask, other=0.0)
    b = tl.load(bias + columns, mask=column_mask, other=0.0)
    normed = deviation * scale[:, None] * w[None, :] + b[None, :]
    tl.store(n + rows[:, None] * D + columns[None, :], normed.to(n.dtype.element_ty), mask=mask)
    tl.store(mean + rows, center, mask=row_mask)
    tl.store(rstd + rows, scale, mask=row_mask)
    if HAS_POTENTIAL:
        v_weight = tl.load(potential_weight + columns, mask=column_mask, other=0.0)
        raw = tl.sum(normed * v_weight[None, :], 1) + tl.load(potential_bias)
        tl.store(potential + rows, V_MAX * tanh(raw / V_MAX), mask=row_mask)


@triton.jit
def backward_kernel(
    grad_n, grad_potential, grad_residual,
    x, weight, bias, potential_weight, potential, mean, rstd, grad_x, partials,
    count, grad_stride, residual_stride, x_stride,
    D: tl.constexpr, V_MAX: tl.constexpr, HAS_POTENTIAL: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """grad_x, and this program's sums for weight, bias, potential_weight and potential_bias."""
    program = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    column_mask = columns < D
    w = tl.load(weight + columns, mask=column_mask, other=0.0)
    weight_sum = tl.zeros((ROWS, WIDTH), tl.float32)
    bias_sum = tl.zeros((ROWS, WIDTH), tl.float32)
    if HAS_POTENTIAL:
        b = tl.load(bias + columns, mask=column_mask, other=0.0)
        v_weight = tl.load(potential_weight + columns, mask=column_mask, other=0.0)
        v_weight_sum = tl.zeros((ROWS, WIDTH), tl.float32)
        v_bias_sum = tl.zeros((ROWS,), tl.float32)
    for first in range(program * ROWS, count, tl.num_programs(0) * ROWS):
        rows = first + tl.arange(0, ROWS).to(tl.int64)
        row_mask = rows < count
        mask = row_mask[:, None] & column_mask[None, :]
        tile = tl.load(x + rows[:, None] * x_stride + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        grad = tl.load(grad_n + rows[:, None] * grad_stride + columns[None, :], mask=mask, other=0.0)
        grad = grad.to(tl.float32)
        center = tl.load(mean + rows, mask=row_mask, other=0.0)
        scale = tl.load(rstd + rows, mask=row_mask, other=0.0)
        normal = tl.where(mask, (tile - center[:, None]) * scale[:, None], 0.0)
        if HAS_POTENTIAL:
            slope = tl.load(potential + rows, mask=row_mask, other=0.0) / V_MAX
            grad_raw = tl.load(grad_potential + rows, mask=row_mask, other=0.0) * (1.0 - slope * slope)
            grad += grad_raw[:, None] * v_weight[None, :]
            v_weight_sum += grad_raw[:, None] * (normal * w[None, :] + b[None, :])
            v_bias_sum += grad_raw
        weight_sum += grad * normal
        bias_sum += grad
        grad_normal = grad * w[None, :]
        offset = tl.sum(grad_normal, 1) / D
        slant = tl.sum(grad_normal * normal, 1) / D
        out = scale[:, None] * (grad_normal - offset[:, None] - normal * slant[:, None])
        if HAS_RESIDUAL:
            residual = grad_residual + rows[:, None] * residual_stride + columns[None, :]
            out += tl.load(residual, mask=mask, other=0.0).to(tl.float32)
        tl.store(grad_x + rows[:, None] * D + columns[None, :], out.to(grad_x.dtype.element_ty), mask=mask)
    if HAS_POTENTIAL:
        sums = partials + program * (3 * D + 1)
        tl.store(sums + 2 * D + columns, tl.sum(v_weight_sum, 0), mask=column_mask)
        tl.store(sums + 3 * D, tl.sum(v_bias_sum, 0))
    else:
        sums = partials + program * (2 * D)
    tl.store(sums + columns, tl.sum(weight_sum, 0), mask=column_mask)
    tl.store(sums + D + columns, tl.sum(bias_sum, 0), mask=column_mask)
