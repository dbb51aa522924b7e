"""Triton kernels of the block's epilogue: whole rows in registers, so that everything is read once.

A thread holds 8 columns of each of its rows; sums over tokens then stay inside a thread, and only a row's
statistics cross warps. A first version walked tiles of 32 rows over the columns twice, with the product of
the global path inside: its backward took 318 µs on an H200 at 8192 tokens of 1024.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl

SUMS = 8  # column sums a program leaves: see backward_kernel
PAD = 16  # numbers after them: the sum for θ, and zeros that keep rows aligned
_COLUMNS_A_WARP = 256  # 8 a thread: one 16-byte load in 16 bits
_PROGRAMS = 528  # of the backward: four for each of Hopper's 132 multiprocessors


@dataclass(frozen=True, kw_only=True, slots=True)
class RowTiles:
    """`rows` of `width` ≥ d columns (a power of two) at a time, by `programs` programs of `warps` warps."""

    rows: int
    width: int
    warps: int
    programs: int


def row_tiles(count: int, d: int, *, backward: bool) -> RowTiles:
    """The tiles for `count` tokens of width d: the backward holds sums beside its rows, so fewer rows.

    A program of the backward takes many tiles in turn and leaves one set of sums.
    """
    width = triton.next_power_of_2(d)
    rows = 2 if backward else 4
    tiles = triton.cdiv(count, rows)
    return RowTiles(
        rows=rows,
        width=width,
        warps=min(16, max(1, width // _COLUMNS_A_WARP)),
        programs=min(tiles, _PROGRAMS) if backward else tiles,
    )


@triton.jit
def _tile(pointer, rows, stride, columns, mask):
    return tl.load(pointer + rows[:, None] * stride + columns[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _shifted(n, rows, position, stride, columns, mask, LAG: tl.constexpr):
    """n of LAG tokens before, 0 before the sequence's start."""
    return _tile(n, rows - LAG, stride, columns, mask & (position >= LAG)[:, None])


@triton.jit
def forward_kernel(
    local, projected, n, g_re, g_im, theta, conv_weight, norm_weight, norm_bias,
    resolvent_scale, resolvent_weight, resolvent_bias, residual, y, mean, rstd,
    count, n_seq, local_stride, n_stride, residual_stride,
    D: tl.constexpr, EPS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    row_mask, column_mask = rows < count, columns < D
    mask = row_mask[:, None] & column_mask[None, :]
    position = rows % n_seq
    total = _tile(projected, rows, D, columns, mask)
    for lag in tl.static_range(3):
        tap = tl.load(conv_weight + (2 - lag) * D + columns, mask=column_mask, other=0.0)
        total += tap[None, :] * _shifted(n, rows, position, n_stride, columns, mask, lag)
    re = tl.load(g_re + rows, mask=row_mask, other=0.0)
    im = tl.load(g_im + rows, mask=row_mask, other=0.0)
    m = tl.sigmoid(tl.load(theta) * im)[:, None]
    mixed = m * _tile(local, rows, local_stride, columns, mask) + (1.0 - m) * total
    center = tl.sum(mixed, 1) / D
    deviation = tl.where(mask, mixed - center[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(deviation * deviation, 1) / D + EPS)
    tl.store(mean + rows, center, mask=row_mask)
    tl.store(rstd + rows, scale, mask=row_mask)
    w = tl.load(norm_weight + columns, mask=column_mask, other=0.0)
    b = tl.load(norm_bias + columns, mask=column_mask, other=0.0)
    b_s = tl.load(resolvent_scale + columns, mask=column_mask, other=0.0)
    w_re = tl.load(resolvent_weight + 2 * columns, mask=column_mask, other=0.0)
    w_im = tl.load(resolvent_weight + 2 * columns + 1, mask=column_mask, other=0.0)
    b_g = tl.load(resolvent_bias + columns, mask=column_mask, other=0.0)
    resolvent = w_re[None, :] * re[:, None] + w_im[None, :] * im[:, None] + b_g[None, :]
    result = deviation * scale[:, None] * w[None, :] + b[None, :] + b_s[None, :] * resolvent
    if HAS_RESIDUAL:
        result += _tile(residual, rows, residual_stride, columns, mask)
    tl.store(y + rows[:, None] * D + columns[None, :], result.to(y.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    grad, local, projected, n, g_re, g_im, theta, conv_weight, norm_weight,
    resolvent_scale, resolvent_weight, mean, rstd, grad_local, grad_total, grad_re, grad_im, partials,
    count, n_seq, grad_stride, local_stride, n_stride,
    D: tl.constexpr, SUMS: tl.constexpr, PAD: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Gradients of both paths and of g, and this program's sums over its tokens.

    partials [programs, SUMS·D + PAD]: Σ of grad, grad·Re g, grad·Im g, grad·normal, grad_total, and of
    grad_total·n of two, one and no tokens before; then one number for θ. Other parameters' gradients follow.
    """
    columns = tl.arange(0, WIDTH)
    column_mask = columns < D
    theta_value = tl.load(theta)
    w = tl.load(norm_weight + columns, mask=column_mask, other=0.0)
    b_s = tl.load(resolvent_scale + columns, mask=column_mask, other=0.0)
    to_re = b_s * tl.load(resolvent_weight + 2 * columns, mask=column_mask, other=0.0)
    to_im = b_s * tl.load(resolvent_weight + 2 * columns + 1, mask=column_mask, other=0.0)
    tap0 = tl.load(conv_weight + 2 * D + columns, mask=column_mask, other=0.0)
    tap1 = tl.load(conv_weight + D + columns, mask=column_mask, other=0.0)
    tap2 = tl.load(conv_weight + columns, mask=column_mask, other=0.0)

    sum_one = tl.zeros((WIDTH,), tl.float32)
    sum_re = tl.zeros((WIDTH,), tl.float32)
    sum_im = tl.zeros((WIDTH,), tl.float32)
    sum_normal = tl.zeros((WIDTH,), tl.float32)
    sum_total = tl.zeros((WIDTH,), tl.float32)
    sum_lag0 = tl.zeros((WIDTH,), tl.float32)
    sum_lag1 = tl.zeros((WIDTH,), tl.float32)
    sum_lag2 = tl.zeros((WIDTH,), tl.float32)
    by_theta = tl.zeros((ROWS,), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(count, ROWS), tl.num_programs(0)):
        rows = (tile * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        row_mask = rows < count
        mask = row_mask[:, None] & column_mask[None, :]
        position = rows % n_seq
        grad_tile = _tile(grad, rows, grad_stride, columns, mask)
        local_tile = _tile(local, rows, local_stride, columns, mask)
        n0 = _shifted(n, rows, position, n_stride, columns, mask, 0)
        n1 = _shifted(n, rows, position, n_stride, columns, mask, 1)
        n2 = _shifted(n, rows, position, n_stride, columns, mask, 2)
        total = _tile(projected, rows, D, columns, mask)
        total += tap0[None, :] * n0 + tap1[None, :] * n1 + tap2[None, :] * n2
        re = tl.load(g_re + rows, mask=row_mask, other=0.0)
        im = tl.load(g_im + rows, mask=row_mask, other=0.0)
        center = tl.load(mean + rows, mask=row_mask, other=0.0)[:, None]
        scale = tl.load(rstd + rows, mask=row_mask, other=0.0)[:, None]
        m_row = tl.sigmoid(theta_value * im)
        m = m_row[:, None]
        normal = tl.where(mask, (m * local_tile + (1.0 - m) * total - center) * scale, 0.0)
        weighted = grad_tile * w[None, :]
        offset = (tl.sum(weighted, 1) / D)[:, None]
        slant = (tl.sum(weighted * normal, 1) / D)[:, None]
        by_re = tl.sum(grad_tile * to_re[None, :], 1)
        by_im = tl.sum(grad_tile * to_im[None, :], 1)
        grad_mixed = tl.where(mask, scale * (weighted - offset - normal * slant), 0.0)
        by_m = tl.sum(grad_mixed * (local_tile - total), 1)
        to_total = (1.0 - m) * grad_mixed
        target = rows[:, None] * D + columns[None, :]
        tl.store(grad_local + target, (m * grad_mixed).to(grad_local.dtype.element_ty), mask=mask)
        tl.store(grad_total + target, to_total.to(grad_total.dtype.element_ty), mask=mask)
        by_logit = by_m * m_row * (1.0 - m_row)
        tl.store(grad_re + rows, by_re, mask=row_mask)
        tl.store(grad_im + rows, by_im + by_logit * theta_value, mask=row_mask)
        by_theta += by_logit * im
        sum_one += tl.sum(grad_tile, 0)
        sum_re += tl.sum(grad_tile * re[:, None], 0)
        sum_im += tl.sum(grad_tile * im[:, None], 0)
        sum_normal += tl.sum(grad_tile * normal, 0)
        sum_total += tl.sum(to_total, 0)
        sum_lag0 += tl.sum(to_total * n0, 0)
        sum_lag1 += tl.sum(to_total * n1, 0)
        sum_lag2 += tl.sum(to_total * n2, 0)

    sums = partials + tl.program_id(0).to(tl.int64) * (SUMS * D + PAD)
    tl.store(sums + columns, sum_one, mask=column_mask)
    tl.store(sums + D + columns, sum_re, mask=column_mask)
    tl.store(sums + 2 * D + columns, sum_im, mask=column_mask)
    tl.store(sums + 3 * D + columns, sum_normal, mask=column_mask)
    tl.store(sums + 4 * D + columns, sum_total, mask=column_mask)
    tl.store(sums + 5 * D + columns, sum_lag2, mask=column_mask)
    tl.store(sums + 6 * D + columns, sum_lag1, mask=column_mask)
    tl.store(sums + 7 * D + columns, sum_lag0, mask=column_mask)
    lane = tl.arange(0, PAD)
    tl.store(sums + SUMS * D + lane, tl.where(lane == 0, tl.sum(by_theta, 0), 0.0))


@triton.jit
def conv_backward_kernel(
    grad_total, conv_weight, grad_n, count, n_seq,
    D: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The transpose of the causal convolution: grad_n_t = Σ_lag w_{2−lag}·grad_total_{t+lag}."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    column_mask = columns < D
    mask = (rows < count)[:, None] & column_mask[None, :]
    ahead = n_seq - 1 - rows % n_seq  # tokens of the same sequence that follow
    result = tl.zeros((ROWS, WIDTH), tl.float32)
    for lag in tl.static_range(3):
        tap = tl.load(conv_weight + (2 - lag) * D + columns, mask=column_mask, other=0.0)
        result += tap[None, :] * _tile(grad_total, rows + lag, D, columns, mask & (ahead >= lag)[:, None])
    tl.store(grad_n + rows[:, None] * D + columns[None, :], result.to(grad_n.dtype.element_ty), mask=mask)
