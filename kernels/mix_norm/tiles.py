"""Triton kernels of the block's epilogue: tiles of tokens, walked over the columns twice.

A row's statistics (forward) or inner products (backward) need all of its columns before the first is written,
and whole rows of enough tokens for a matrix product do not fit a program's registers. So each program walks
its columns twice and computes the pre-norm values again: the second walk finds its operands in the caches,
global memory is read once.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

MAX_RANK = 256
SUMS = 8  # column sums a program leaves: see backward_kernel
PAD = 16  # numbers after them: the sum for θ, and zeros that keep rows aligned
_ENOUGH_PROGRAMS = 256  # two for each of Hopper's 132 multiprocessors, in one wave


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenTiles:
    """`tokens` rows a program, `columns` at a time; the rank padded to `rank` for the matrix product."""

    tokens: int
    columns: int
    rank: int
    warps: int
    stages: int = 2


def token_tiles(count: int, d: int, rank: int, dtype: torch.dtype) -> TokenTiles:
    """The tiles for `count` tokens of width d.

    More tokens a tile read W_o and the vectors less often, fewer keep every multiprocessor busy. Columns: 128
    bytes of a row, a cache line. So 8 numbers (float32: 4) of each tensor a thread, which is what fits 128
    registers, two programs a multiprocessor. Shared memory holds the product's operands, 18 KiB at rank 32.
    """
    columns = min(128 // dtype.itemsize, max(16, triton.next_power_of_2(d)))
    rank_block = max(16, triton.next_power_of_2(rank))
    tokens = 32 if rank_block <= 64 and count >= 32 * _ENOUGH_PROGRAMS else 16
    return TokenTiles(tokens=tokens, columns=columns, rank=rank_block, warps=tokens // 4)


@triton.jit
def _ranked_tile(ranked, rows, row_mask, stride, RANK: tl.constexpr, RANK_BLOCK: tl.constexpr):
    k = tl.arange(0, RANK_BLOCK)
    mask = row_mask[:, None] & (k < RANK)[None, :]
    return tl.load(ranked + rows[:, None] * stride + k[None, :], mask=mask, other=0.0)


@triton.jit
def _shifted(n, rows, position, mask, columns, stride, LAG: tl.constexpr):
    """n of LAG tokens before, 0 before the sequence's start."""
    pointers = n + (rows - LAG)[:, None] * stride + columns[None, :]
    return tl.load(pointers, mask=mask & (position >= LAG)[:, None], other=0.0).to(tl.float32)


@triton.jit
def _paths(
    local, ranked_tile, n, global_weight, global_bias, conv_weight,
    rows, position, mask, columns, column_mask, local_stride, n_stride,
    D: tl.constexpr, RANK: tl.constexpr, RANK_BLOCK: tl.constexpr,
):  # fmt: skip
    """The local and the global path at some columns, float32; 0 outside the mask's columns."""
    k = tl.arange(0, RANK_BLOCK)
    weight_mask = column_mask[None, :] & (k < RANK)[:, None]
    weight = tl.load(global_weight + columns[None, :] * RANK + k[:, None], mask=weight_mask, other=0.0)
    total = tl.dot(ranked_tile, weight.to(ranked_tile.dtype), input_precision="ieee")
    total += tl.load(global_bias + columns, mask=column_mask, other=0.0)[None, :]
    for lag in tl.static_range(3):
        tap = tl.load(conv_weight + (2 - lag) * D + columns, mask=column_mask, other=0.0)
        total += tap[None, :] * _shifted(n, rows, position, mask, columns, n_stride, lag)
    local_tile = tl.load(local + rows[:, None] * local_stride + columns[None, :], mask=mask, other=0.0)
    return local_tile.to(tl.float32), total


@triton.jit
def forward_kernel(
    local, ranked, n, g_re, g_im, theta, global_weight, global_bias, conv_weight, norm_weight, norm_bias,
    resolvent_scale, resolvent_weight, resolvent_bias, residual, y, mean, rstd,
    count, n_seq, local_stride, ranked_stride, n_stride, residual_stride,
    D: tl.constexpr, RANK: tl.constexpr, EPS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr, RANK_BLOCK: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * TOKENS
    rows = tl.arange(0, TOKENS)
    row_mask = rows < count - first
    position = (first + rows) % n_seq
    # From here on every pointer is the tile's own: offsets inside a tile fit 32 bits and half the registers
    start_row = first.to(tl.int64)
    local += start_row * local_stride
    ranked += start_row * ranked_stride
    n += start_row * n_stride
    g_re += first
    g_im += first
    y += start_row * D
    mean += first
    rstd += first
    if HAS_RESIDUAL:
        residual += start_row * residual_stride
    re = tl.load(g_re + rows, mask=row_mask, other=0.0)
    im = tl.load(g_im + rows, mask=row_mask, other=0.0)
    m = tl.sigmoid(tl.load(theta) * im)[:, None]
    ranked_tile = _ranked_tile(ranked, rows, row_mask, ranked_stride, RANK, RANK_BLOCK)

    # Means and squared deviations of the column tiles, combined as by Chan, Golub, LeVeque: no cancellation
    center = tl.zeros((TOKENS,), tl.float32)
    squares = tl.zeros((TOKENS,), tl.float32)
    for start in range(0, D, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        column_mask = columns < D
        mask = row_mask[:, None] & column_mask[None, :]
        local_tile, total = _paths(
            local, ranked_tile, n, global_weight, global_bias, conv_weight,
            rows, position, mask, columns, column_mask, local_stride, n_stride, D, RANK, RANK_BLOCK,
        )  # fmt: skip
        mixed = m * local_tile + (1.0 - m) * total
        here = tl.minimum(D - start, COLUMNS).to(tl.float32)
        tile_center = tl.sum(mixed, 1) / here
        deviation = tl.where(column_mask[None, :], mixed - tile_center[:, None], 0.0)
        step = tile_center - center
        share = here / (start + here)
        center += step * share
        squares += tl.sum(deviation * deviation, 1) + step * step * start * share
    scale = 1.0 / tl.sqrt(squares / D + EPS)
    tl.store(mean + rows, center, mask=row_mask)
    tl.store(rstd + rows, scale, mask=row_mask)

    for start in range(0, D, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        column_mask = columns < D
        mask = row_mask[:, None] & column_mask[None, :]
        local_tile, total = _paths(
            local, ranked_tile, n, global_weight, global_bias, conv_weight,
            rows, position, mask, columns, column_mask, local_stride, n_stride, D, RANK, RANK_BLOCK,
        )  # fmt: skip
        normal = (m * local_tile + (1.0 - m) * total - center[:, None]) * scale[:, None]
        w = tl.load(norm_weight + columns, mask=column_mask, other=0.0)
        b = tl.load(norm_bias + columns, mask=column_mask, other=0.0)
        b_s = tl.load(resolvent_scale + columns, mask=column_mask, other=0.0)
        w_re = tl.load(resolvent_weight + 2 * columns, mask=column_mask, other=0.0)
        w_im = tl.load(resolvent_weight + 2 * columns + 1, mask=column_mask, other=0.0)
        b_g = tl.load(resolvent_bias + columns, mask=column_mask, other=0.0)
        resolvent = re[:, None] * w_re[None, :] + im[:, None] * w_im[None, :] + b_g[None, :]
        out = normal * w[None, :] + b[None, :] + b_s[None, :] * resolvent
        if HAS_RESIDUAL:
            pointers = residual + rows[:, None] * residual_stride + columns[None, :]
            out += tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
        tl.store(y + rows[:, None] * D + columns[None, :], out.to(y.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    grad, local, ranked, n, g_re, g_im, theta, global_weight, global_bias, conv_weight, norm_weight,
    resolvent_scale, resolvent_weight, mean, rstd, grad_local, grad_total, grad_re, grad_im, partials,
    count, n_seq, grad_stride, local_stride, ranked_stride, n_stride,
    D: tl.constexpr, RANK: tl.constexpr, SUMS: tl.constexpr, PAD: tl.constexpr,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr, RANK_BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of both paths and of g, and this program's sums over its tokens.

    partials [programs, SUMS·D + PAD]: Σ of grad, grad·Re g, grad·Im g, grad·normal, grad_total, and of
    grad_total·n of two, one and no tokens before; then one number for θ. Other parameters' gradients follow.
    """
    first = tl.program_id(0) * TOKENS
    rows = tl.arange(0, TOKENS)
    row_mask = rows < count - first
    position = (first + rows) % n_seq
    start_row = first.to(tl.int64)
    grad += start_row * grad_stride
    local += start_row * local_stride
    ranked += start_row * ranked_stride
    n += start_row * n_stride
    g_re += first
    g_im += first
    mean += first
    rstd += first
    grad_local += start_row * D
    grad_total += start_row * D
    grad_re += first
    grad_im += first
    re = tl.load(g_re + rows, mask=row_mask, other=0.0)
    im = tl.load(g_im + rows, mask=row_mask, other=0.0)
    center = tl.load(mean + rows, mask=row_mask, other=0.0)[:, None]
    scale = tl.load(rstd + rows, mask=row_mask, other=0.0)[:, None]
    theta_value = tl.load(theta)
    m = tl.sigmoid(theta_value * im)[:, None]
    ranked_tile = _ranked_tile(ranked, rows, row_mask, ranked_stride, RANK, RANK_BLOCK)

    offset = tl.zeros((TOKENS,), tl.float32)
    slant = tl.zeros((TOKENS,), tl.float32)
    by_re = tl.zeros((TOKENS,), tl.float32)
    by_im = tl.zeros((TOKENS,), tl.float32)
    for start in range(0, D, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        column_mask = columns < D
        mask = row_mask[:, None] & column_mask[None, :]
        local_tile, total = _paths(
            local, ranked_tile, n, global_weight, global_bias, conv_weight,
            rows, position, mask, columns, column_mask, local_stride, n_stride, D, RANK, RANK_BLOCK,
        )  # fmt: skip
        normal = (m * local_tile + (1.0 - m) * total - center) * scale
        grad_tile = tl.load(grad + rows[:, None] * grad_stride + columns[None, :], mask=mask, other=0.0)
        grad_tile = grad_tile.to(tl.float32)
        w = tl.load(norm_weight + columns, mask=column_mask, other=0.0)
        b_s = tl.load(resolvent_scale + columns, mask=column_mask, other=0.0)
        w_re = tl.load(resolvent_weight + 2 * columns, mask=column_mask, other=0.0)
        w_im = tl.load(resolvent_weight + 2 * columns + 1, mask=column_mask, other=0.0)
        grad_normal = grad_tile * w[None, :]
        offset += tl.sum(grad_normal, 1)
        slant += tl.sum(grad_normal * normal, 1)
        by_re += tl.sum(grad_tile * (b_s * w_re)[None, :], 1)
        by_im += tl.sum(grad_tile * (b_s * w_im)[None, :], 1)
    offset = (offset / D)[:, None]
    slant = (slant / D)[:, None]

    sums = partials + tl.program_id(0).to(tl.int64) * (SUMS * D + PAD)
    by_m = tl.zeros((TOKENS,), tl.float32)
    for start in range(0, D, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        column_mask = columns < D
        mask = row_mask[:, None] & column_mask[None, :]
        local_tile, total = _paths(
            local, ranked_tile, n, global_weight, global_bias, conv_weight,
            rows, position, mask, columns, column_mask, local_stride, n_stride, D, RANK, RANK_BLOCK,
        )  # fmt: skip
        normal = (m * local_tile + (1.0 - m) * total - center) * scale
        grad_tile = tl.load(grad + rows[:, None] * grad_stride + columns[None, :], mask=mask, other=0.0)
        grad_tile = grad_tile.to(tl.float32)
        w = tl.load(norm_weight + columns, mask=column_mask, other=0.0)
        grad_mixed = tl.where(mask, scale * (grad_tile * w[None, :] - offset - normal * slant), 0.0)
        by_m += tl.sum(grad_mixed * (local_tile - total), 1)
        target = rows[:, None] * D + columns[None, :]
        tl.store(grad_local + target, (m * grad_mixed).to(grad_local.dtype.element_ty), mask=mask)
        to_total = (1.0 - m) * grad_mixed
        tl.store(grad_total + target, to_total.to(grad_total.dtype.element_ty), mask=mask)
        tl.store(sums + columns, tl.sum(grad_tile, 0), mask=column_mask)
        tl.store(sums + D + columns, tl.sum(grad_tile * re[:, None], 0), mask=column_mask)
        tl.store(sums + 2 * D + columns, tl.sum(grad_tile * im[:, None], 0), mask=column_mask)
        tl.store(sums + 3 * D + columns, tl.sum(grad_tile * normal, 0), mask=column_mask)
        tl.store(sums + 4 * D + columns, tl.sum(to_total, 0), mask=column_mask)
        for lag in tl.static_range(3):
            tile = _shifted(n, rows, position, mask, columns, n_stride, lag)
            tl.store(sums + (7 - lag) * D + columns, tl.sum(to_total * tile, 0), mask=column_mask)

    m_row = tl.sigmoid(theta_value * im)
    by_logit = by_m * m_row * (1.0 - m_row)
    tl.store(grad_re + rows, by_re, mask=row_mask)
    tl.store(grad_im + rows, by_im + by_logit * theta_value, mask=row_mask)
    lane = tl.arange(0, PAD)
    tl.store(sums + SUMS * D + lane, tl.where(lane == 0, tl.sum(by_logit * im, 0), 0.0))


@triton.jit
def conv_backward_kernel(
    grad_total, conv_weight, grad_n, count, n_seq,
    D: tl.constexpr, TOKENS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The transpose of the causal convolution: grad_n_t = Σ_lag w_{2−lag}·grad_total_{t+lag}."""
    rows = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    column_mask = columns < D
    mask = (rows < count)[:, None] & column_mask[None, :]
    ahead = n_seq - 1 - rows % n_seq  # tokens of the same sequence that follow
    result = tl.zeros((TOKENS, COLUMNS), tl.float32)
    for lag in tl.static_range(3):
        tap = tl.load(conv_weight + (2 - lag) * D + columns, mask=column_mask, other=0.0)
        pointers = grad_total + (rows + lag)[:, None] * D + columns[None, :]
        tile = tl.load(pointers, mask=mask & (ahead >= lag)[:, None], other=0.0)
        result += tap[None, :] * tile.to(tl.float32)
    tl.store(grad_n + rows[:, None] * D + columns[None, :], result.to(grad_n.dtype.element_ty), mask=mask)
