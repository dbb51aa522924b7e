"""Triton kernels of the rank weight: whole rows in registers, one read of h each way.

atanh undoes tanh: the radius is 2·min(|h|/√d, atanh(1 − 10⁻⁶)), without the digits that tanh loses near 1.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def row_square(h, rows, columns, mask, stride):
    """The rows of h, and their squared norms."""
    tile = tl.load(h + rows[:, None] * stride + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    return tile, tl.sum(tile * tile, 1)


@triton.jit
def radius_layer(radius, weight1, bias1, lane, K: tl.constexpr):
    """relu(Q1·ϱ + q1) [ROWS, K], NaN where ϱ is, and Q1."""
    w1 = tl.load(weight1 + lane, mask=lane < K, other=0.0)
    before = radius[:, None] * w1[None, :] + tl.load(bias1 + lane, mask=lane < K, other=0.0)[None, :]
    return tl.where(before <= 0.0, 0.0, before), w1


@triton.jit
def forward_kernel(
    h, g_re, g_im, weight1, bias1, weight2, bias2, resolvent_weight, resolvent_bias, omega, count, stride,
    D: tl.constexpr, K: tl.constexpr, ROOT_D: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS).to(tl.int64)
    columns, lane = tl.arange(0, WIDTH), tl.arange(0, LANES)
    known = rows < count
    _, square = row_square(h, rows, columns, known[:, None] & (columns < D)[None, :], stride)
    scaled = tl.sqrt_rn(tl.where(square < SMALLEST, SMALLEST, square)) / ROOT_D
    hidden, _ = radius_layer(2.0 * tl.where(scaled > LARGEST, LARGEST, scaled), weight1, bias1, lane, K)
    w2 = tl.load(weight2 + lane, mask=lane < K, other=0.0)
    by_radius = tl.sigmoid(tl.sum(hidden * w2[None, :], 1) + tl.load(bias2))
    re = tl.load(g_re + rows, mask=known, other=0.0)
    im = tl.load(g_im + rows, mask=known, other=0.0)
    logit = tl.load(resolvent_weight) * re + tl.load(resolvent_weight + 1) * im + tl.load(resolvent_bias)
    tl.store(omega + rows, by_radius * tl.sigmoid(logit), mask=known)


@triton.jit
def backward_kernel(
    grad, h, g_re, g_im, weight1, bias1, weight2, bias2, resolvent_weight, resolvent_bias,
    grad_h, grad_re, grad_im, partials, count, stride,
    D: tl.constexpr, K: tl.constexpr, ROOT_D: tl.constexpr, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """grad_h, grad_re, grad_im, and this program's sums [3·K + 4] for weight1, bias1, weight2, then for
    bias2, resolvent_weight and resolvent_bias."""
    columns, lane = tl.arange(0, WIDTH), tl.arange(0, LANES)
    w2 = tl.load(weight2 + lane, mask=lane < K, other=0.0)
    r_re, r_im = tl.load(resolvent_weight), tl.load(resolvent_weight + 1)
    sum_weight1 = tl.zeros((ROWS, LANES), tl.float32)
    sum_bias1 = tl.zeros((ROWS, LANES), tl.float32)
    sum_weight2 = tl.zeros((ROWS, LANES), tl.float32)
    sum_bias2 = tl.zeros((ROWS,), tl.float32)
    sum_re = tl.zeros((ROWS,), tl.float32)
    sum_im = tl.zeros((ROWS,), tl.float32)
    sum_bias = tl.zeros((ROWS,), tl.float32)
    for first in range(tl.program_id(0) * ROWS, count, tl.num_programs(0) * ROWS):
        rows = first + tl.arange(0, ROWS).to(tl.int64)
        known = rows < count
        mask = known[:, None] & (columns < D)[None, :]
        tile, square = row_square(h, rows, columns, mask, stride)
        norm = tl.sqrt_rn(tl.where(square < SMALLEST, SMALLEST, square))
        scaled = norm / ROOT_D
        radius = 2.0 * tl.where(scaled > LARGEST, LARGEST, scaled)
        hidden, w1 = radius_layer(radius, weight1, bias1, lane, K)
        by_radius = tl.sigmoid(tl.sum(hidden * w2[None, :], 1) + tl.load(bias2))
        re = tl.load(g_re + rows, mask=known, other=0.0)
        im = tl.load(g_im + rows, mask=known, other=0.0)
        by_resolvent = tl.sigmoid(r_re * re + r_im * im + tl.load(resolvent_bias))
        by_omega = tl.load(grad + rows, mask=known, other=0.0) * by_radius * by_resolvent
        by_logit = by_omega * (1.0 - by_radius)
        by_before = tl.where(hidden > 0.0, by_logit[:, None] * w2[None, :], 0.0)
        sum_weight1 += by_before * radius[:, None]
        sum_bias1 += by_before
        sum_weight2 += by_logit[:, None] * hidden
        sum_bias2 += by_logit
        by_scaled = 2.0 * tl.sum(by_before * w1[None, :], 1)
        passes = (scaled <= LARGEST) & (square >= SMALLEST)
        slope = tl.where(passes, by_scaled / (ROOT_D * norm), 0.0)
        at = rows[:, None] * D + columns[None, :]
        tl.store(grad_h + at, (slope[:, None] * tile).to(grad_h.dtype.element_ty), mask=mask)
        by_resolvent = by_omega * (1.0 - by_resolvent)
        tl.store(grad_re + rows, by_resolvent * r_re, mask=known)
        tl.store(grad_im + rows, by_resolvent * r_im, mask=known)
        sum_re += by_resolvent * re
        sum_im += by_resolvent * im
        sum_bias += by_resolvent
    sums = partials + tl.program_id(0) * (3 * K + 4)
    tl.store(sums + lane, tl.sum(sum_weight1, 0), mask=lane < K)
    tl.store(sums + K + lane, tl.sum(sum_bias1, 0), mask=lane < K)
    tl.store(sums + 2 * K + lane, tl.sum(sum_weight2, 0), mask=lane < K)
    tl.store(sums + 3 * K, tl.sum(sum_bias2, 0))
    tl.store(sums + 3 * K + 1, tl.sum(sum_re, 0))
    tl.store(sums + 3 * K + 2, tl.sum(sum_im, 0))
    tl.store(sums + 3 * K + 3, tl.sum(sum_bias, 0))
