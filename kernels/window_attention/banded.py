"""The backward of `fast`: dQ by block of queries, then dK and dV by block of keys, one warp a program.

A block of 16 rows meets the other side in tiles of 16: for a window of 64, 80 pairs a row are computed. Loads
of the next tile run during this one. A program of one warp waits for no other: no barriers.
On an H200 at B=320, N=256, H=8, D=64 in bf16 the two take 336 and 304 µs, in programs of two and four warps
538 and 453, 453 and 392. One kernel that computed each pair once, in tiles of 32 with dQ carried along the
sequence by four warps, took 875: two blocks a multiprocessor, 70 barriers a step.
"""

# ruff: noqa: SIM300  (an upper-case name is a constant of the compilation, not the literal side)
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
from __future__ import annotations

import triton
import triton.language as tl

from .geometry import (
    LN2,
    inside_clamp,
    operand,
    pair_distance,
    pair_gradients,
    power,
    row_gradient,
    weighted_rows,
)
from .prologue import load_factors, load_slopes
from .tiles import load_lse, load_rows, load_scalars, store_partials, store_rows, visible


@triton.jit
def query_kernel(
    d_out_ptr, q_ptr, k_ptr, v_ptr, curvature_ptr, beta_ptr, sink_ptr, out_ptr, lse_ptr, factors_ptr,
    d_q_ptr, delta_ptr, shares_ptr,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    d_q_batch, d_q_row, d_q_head, N, H,
    WINDOW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROOT_DIM: tl.constexpr,
    BLOCK: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """dQ of one block of queries, Σ dO·O of its rows, and the scalars' shares of queries and scores."""
    DTYPE: tl.constexpr = q_ptr.dtype.element_ty
    PRECISE: tl.constexpr = DTYPE == tl.float32
    UNIT: tl.constexpr = 1.0 if PRECISE else LN2
    blocks = tl.cdiv(N, BLOCK)
    stream = tl.program_id(0) // blocks  # batch · H + head
    batch, head = (stream // H).to(tl.int64), stream % H
    start = tl.program_id(0) % blocks * BLOCK
    size = (tl.num_programs(0) // blocks).to(tl.int64) * N
    scalars = stream.to(tl.int64) * N
    factors_q = factors_ptr + scalars
    factors_k = factors_q + 5 * size
    row = batch * N * H + head
    queries = start + tl.arange(0, BLOCK)
    q = load_rows(q_ptr + batch * q_batch + head * q_head, queries, q_row, N, D, BLOCK_D)
    d_out = load_rows(d_out_ptr + row * D, queries, H * D, N, D, BLOCK_D)
    out = load_rows(out_ptr + row * D, queries, H * D, N, D, BLOCK_D)
    delta = tl.sum(d_out.to(tl.float32) * out.to(tl.float32), axis=1)
    tl.store(delta_ptr + scalars + queries, delta, mask=queries < N)
    lse = load_lse(lse_ptr + scalars, queries, N, UNIT)
    sqrt_c, scale = load_scalars(curvature_ptr, beta_ptr, ROOT_DIM)
    rows = load_factors(factors_q, size, queries, N, sqrt_c)
    weighted = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    sum_s = tl.zeros([BLOCK], tl.float32)
    sum_factor = tl.zeros([BLOCK], tl.float32)
    sum_g = tl.zeros([BLOCK], tl.float32)
    sum_p = tl.zeros([BLOCK], tl.float32)
    d_log = tl.zeros([BLOCK], tl.float32)
    for first in range(tl.maximum(start - WINDOW + 1, 0), tl.minimum(start + BLOCK, N), SPAN):
        keys = first + tl.arange(0, SPAN)
        k = load_rows(k_ptr + batch * k_batch + head * k_head, keys, k_row, N, D, BLOCK_D)
        v = load_rows(v_ptr + batch * v_batch + head * v_head, keys, v_row, N, D, BLOCK_D)
        columns = load_factors(factors_k, size, keys, N, sqrt_c)
        dot = tl.dot(q, tl.trans(k), input_precision="ieee")
        d_weight = tl.dot(d_out, tl.trans(v), input_precision="ieee")
        pairs = pair_distance(dot, rows, columns, PRECISE)
        seen = visible(queries[:, None], keys[None, :], WINDOW)
        weight = tl.where(seen, power(-scale * pairs[0] - lse[:, None], PRECISE), 0.0)
        d_score = weight * (d_weight - delta[:, None])
        by_s, by_factor, by_gap = pair_gradients(d_score, pairs, DTYPE)
        weighted += weighted_rows(operand(by_gap, DTYPE), operand(k, DTYPE), DTYPE)
        sum_s += tl.sum(by_s, axis=1)
        sum_factor += tl.sum(by_factor, axis=1)
        sum_g += tl.sum(by_gap * columns[0][None, :], axis=1)
        sum_p += tl.sum(weight * d_weight, axis=1)
        d_log += tl.sum(d_score * pairs[0], axis=1)
    slope_rho, slope_c = load_slopes(factors_q, size, queries, N)
    sum_s = 4 * inside_clamp(rows[0], sqrt_c) * sum_s
    radial = sqrt_c * sum_s + slope_rho * sum_factor + sum_g
    gradient = row_gradient(q.to(tl.float32), weighted, radial, rows[0])
    d_q_ptr += batch * d_q_batch + head * d_q_head
    store_rows(d_q_ptr, queries, d_q_row, -scale * gradient, N, D, BLOCK_D)
    by_sqrt_c = tl.sum(rows[0] * sum_s + slope_c * sum_factor)
    d_sink = -tl.sum(power(tl.load(sink_ptr) / UNIT - lse, PRECISE) * sum_p)
    store_partials(
        shares_ptr, tl.program_id(0), 2 * tl.num_programs(0),
        tl.sum(d_log), by_sqrt_c, d_sink, sqrt_c, scale, ROOT_DIM, UNIT,
    )  # fmt: skip


@triton.jit
def key_kernel(
    d_out_ptr, q_ptr, k_ptr, v_ptr, curvature_ptr, beta_ptr, lse_ptr, factors_ptr, delta_ptr,
    d_k_ptr, d_v_ptr, shares_ptr,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    d_k_batch, d_k_row, d_k_head, d_v_batch, d_v_row, d_v_head, N, H,
    WINDOW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROOT_DIM: tl.constexpr,
    BLOCK: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """dK and dV of one block of keys, the curvature's share of keys. Tiles are [keys, queries]."""
    DTYPE: tl.constexpr = q_ptr.dtype.element_ty
    PRECISE: tl.constexpr = DTYPE == tl.float32
    UNIT: tl.constexpr = 1.0 if PRECISE else LN2
    blocks = tl.cdiv(N, BLOCK)
    stream = tl.program_id(0) // blocks  # batch · H + head
    batch, head = (stream // H).to(tl.int64), stream % H
    start = tl.program_id(0) % blocks * BLOCK
    size = (tl.num_programs(0) // blocks).to(tl.int64) * N
    scalars = stream.to(tl.int64) * N
    factors_q = factors_ptr + scalars
    factors_k = factors_q + 5 * size
    row = batch * N * H + head
    keys = start + tl.arange(0, BLOCK)
    k = load_rows(k_ptr + batch * k_batch + head * k_head, keys, k_row, N, D, BLOCK_D)
    v = load_rows(v_ptr + batch * v_batch + head * v_head, keys, v_row, N, D, BLOCK_D)
    sqrt_c, scale = load_scalars(curvature_ptr, beta_ptr, ROOT_DIM)
    rows = load_factors(factors_k, size, keys, N, sqrt_c)
    weighted = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    d_v = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    sum_s = tl.zeros([BLOCK], tl.float32)
    sum_factor = tl.zeros([BLOCK], tl.float32)
    sum_g = tl.zeros([BLOCK], tl.float32)
    for first in range(start, tl.minimum(start + BLOCK + WINDOW - 1, N), SPAN):
        queries = first + tl.arange(0, SPAN)
        q = load_rows(q_ptr + batch * q_batch + head * q_head, queries, q_row, N, D, BLOCK_D)
        d_out = load_rows(d_out_ptr + row * D, queries, H * D, N, D, BLOCK_D)
        lse = load_lse(lse_ptr + scalars, queries, N, UNIT)
        delta = tl.load(delta_ptr + scalars + queries, mask=queries < N, other=0.0)
        columns = load_factors(factors_q, size, queries, N, sqrt_c)
        dot = tl.dot(k, tl.trans(q), input_precision="ieee")
        d_weight = tl.dot(v, tl.trans(d_out), input_precision="ieee")
        pairs = pair_distance(dot, rows, columns, PRECISE)
        seen = visible(queries[None, :], keys[:, None], WINDOW)
        weight = tl.where(seen, power(-scale * pairs[0] - lse[None, :], PRECISE), 0.0)
        by_s, by_factor, by_gap = pair_gradients(weight * (d_weight - delta[None, :]), pairs, DTYPE)
        d_v += tl.dot(weight.to(DTYPE), d_out, input_precision="ieee")
        weighted += weighted_rows(operand(by_gap, DTYPE), operand(q, DTYPE), DTYPE)
        sum_s += tl.sum(by_s, axis=1)
        sum_factor += tl.sum(by_factor, axis=1)
        sum_g += tl.sum(by_gap * columns[0][None, :], axis=1)
    d_v_ptr += batch * d_v_batch + head * d_v_head
    store_rows(d_v_ptr, keys, d_v_row, d_v, N, D, BLOCK_D)
    slope_rho, slope_c = load_slopes(factors_k, size, keys, N)
    sum_s = 4 * inside_clamp(rows[0], sqrt_c) * sum_s
    radial = sqrt_c * sum_s + slope_rho * sum_factor + sum_g
    gradient = row_gradient(k.to(tl.float32), weighted, radial, rows[0])
    d_k_ptr += batch * d_k_batch + head * d_k_head
    store_rows(d_k_ptr, keys, d_k_row, -scale * gradient, N, D, BLOCK_D)
    by_sqrt_c = tl.sum(rows[0] * sum_s + slope_c * sum_factor)
    store_partials(
        shares_ptr, tl.num_programs(0) + tl.program_id(0), 2 * tl.num_programs(0),
        0.0, by_sqrt_c, 0.0, sqrt_c, scale, ROOT_DIM, UNIT,
    )  # fmt: skip
