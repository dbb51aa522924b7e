"""The parameters' gradients of the epilogue, from the sums that the backward's programs left."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import triton
import triton.language as tl

COLUMNS = 16  # a program's: narrow, so that d = 512 occupies 32 multiprocessors
ROWS = 64


@triton.jit
def _column_sum(
    partials, row, columns, column_mask, count, stride,
    D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Σ over programs of one of their column sums, in a fixed order."""
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, count, ROWS):
        programs = first + tl.arange(0, ROWS).to(tl.int64)
        pointers = partials + programs[:, None] * stride + row * D + columns[None, :]
        total += tl.load(pointers, mask=(programs < count)[:, None] & column_mask[None, :], other=0.0)
    return tl.sum(total, 0)


@triton.jit
def parameters_kernel(
    partials, resolvent_scale, resolvent_weight, resolvent_bias, out, count,
    D: tl.constexpr, SUMS: tl.constexpr, PAD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The parameters' gradients from the programs' sums.

    out [10·D + 1]: conv_weight (3), norm_weight, norm_bias, resolvent_scale, resolvent_bias, global_bias,
    resolvent_weight [D, 2], theta.
    """
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    column_mask = columns < D
    stride = SUMS * D + PAD
    for tap in tl.static_range(3):
        conv = _column_sum(partials, 5 + tap, columns, column_mask, count, stride, D, ROWS, COLUMNS)
        tl.store(out + tap * D + columns, conv, mask=column_mask)
    by_one = _column_sum(partials, 0, columns, column_mask, count, stride, D, ROWS, COLUMNS)
    by_re = _column_sum(partials, 1, columns, column_mask, count, stride, D, ROWS, COLUMNS)
    by_im = _column_sum(partials, 2, columns, column_mask, count, stride, D, ROWS, COLUMNS)
    by_normal = _column_sum(partials, 3, columns, column_mask, count, stride, D, ROWS, COLUMNS)
    by_total = _column_sum(partials, 4, columns, column_mask, count, stride, D, ROWS, COLUMNS)
    b_s = tl.load(resolvent_scale + columns, mask=column_mask, other=0.0)
    w_re = tl.load(resolvent_weight + 2 * columns, mask=column_mask, other=0.0)
    w_im = tl.load(resolvent_weight + 2 * columns + 1, mask=column_mask, other=0.0)
    b_g = tl.load(resolvent_bias + columns, mask=column_mask, other=0.0)
    tl.store(out + 3 * D + columns, by_normal, mask=column_mask)
    tl.store(out + 4 * D + columns, by_one, mask=column_mask)
    tl.store(out + 5 * D + columns, w_re * by_re + w_im * by_im + b_g * by_one, mask=column_mask)
    tl.store(out + 6 * D + columns, b_s * by_one, mask=column_mask)
    tl.store(out + 7 * D + columns, by_total, mask=column_mask)
    tl.store(out + 8 * D + 2 * columns, b_s * by_re, mask=column_mask)
    tl.store(out + 8 * D + 2 * columns + 1, b_s * by_im, mask=column_mask)
    if tl.program_id(0) == 0:
        theta = tl.zeros((ROWS,), tl.float32)
        for first in range(0, count, ROWS):
            programs = first + tl.arange(0, ROWS).to(tl.int64)
            theta += tl.load(partials + programs * stride + SUMS * D, mask=programs < count, other=0.0)
        tl.store(out + 10 * D, tl.sum(theta, 0))
