"""The backward of `fast`: one kernel, each pair recomputed once.

A program walks over the key blocks of a sequence, or of a chunk of it. A step finishes dK and dV of its key
block and the dQ that its queries still lacked, and carries the dQ of the two next query blocks in registers.
No gradient is written twice, and none needs atomics.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# ruff: noqa: SIM102, SIM300  (upper-case names are constants of the compilation, with branches of their own)
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
def _add_tile(
    d_q, radial, delta, d_k, d_v, sums,
    k, v, rows, slopes, keys, queries,
    q_ptr, d_out_ptr, lse_ptr, factors_ptr, q_row, out_row, size, N, sqrt_c, scale, sink,
    MASKED: tl.constexpr, WINDOW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Add what one tile [keys, queries] gives to dQ of its queries, dK and dV of its keys, and the scalars.

    radial [R] gathers the radial part of dQ (see `row_gradient`). sums: the same of dK, dS·log(1 + …),
    dL/d√c and dL/dsink, per pair, so that they are reduced once a key block; dL/dsink from Σ P·dP, because
    dO·O lacks what rounding took from O.
    """
    DTYPE: tl.constexpr = k.dtype
    PRECISE: tl.constexpr = DTYPE == tl.float32
    q = load_rows(q_ptr, queries, q_row, N, D, BLOCK_D)
    d_out = load_rows(d_out_ptr, queries, out_row, N, D, BLOCK_D)
    lse = load_lse(lse_ptr, queries, N, UNIT)
    columns = load_factors(factors_ptr, size, queries, N, sqrt_c)
    slope_rho, slope_c = load_slopes(factors_ptr, size, queries, N)
    inside = inside_clamp(columns[0], sqrt_c)

    dot = tl.dot(k, tl.trans(q), input_precision="ieee")
    pairs = pair_distance(dot, rows, columns, PRECISE)
    weight = power(-scale * pairs[0] - lse[None, :], PRECISE)
    if MASKED:
        weight = tl.where(visible(queries[None, :], keys[:, None], WINDOW), weight, 0.0)
    d_v += tl.dot(weight.to(DTYPE), d_out, input_precision="ieee")
    d_weight = tl.dot(v, tl.trans(d_out), input_precision="ieee")
    d_score = weight * (d_weight - delta[None, :])
    by_s, by_factor, by_gap = pair_gradients(d_score, pairs, DTYPE)
    left = operand(by_gap, DTYPE)
    d_k += weighted_rows(left, operand(q, DTYPE), DTYPE)
    d_q += weighted_rows(tl.trans(left), operand(k, DTYPE), DTYPE)

    slope_rho_k, slope_c_k, inside_k = slopes
    to_query = slope_rho[None, :] * by_factor - (4 * sqrt_c * inside)[None, :] * by_s
    radial += tl.sum(to_query + by_gap * rows[0][:, None], axis=0)
    to_key, d_log, by_sqrt_c, d_sink = sums
    to_key += slope_rho_k[:, None] * by_factor + (4 * sqrt_c * inside_k)[:, None] * by_s
    to_key += by_gap * columns[0][None, :]
    d_log += d_score * pairs[0]
    by_sqrt_c += (slope_c_k[:, None] + slope_c[None, :]) * by_factor
    by_sqrt_c += ((4 * rows[0] * inside_k)[:, None] - (4 * columns[0] * inside)[None, :]) * by_s
    d_sink -= power(sink - lse, PRECISE)[None, :] * (weight * d_weight)
    return d_q, radial, d_k, d_v, (to_key, d_log, by_sqrt_c, d_sink)


# One chunk a sequence is the common case; a kernel compiled for that number spills four times the registers
@triton.jit(do_not_specialize=["chunk", "chunks"])
def backward_kernel(
    d_out_ptr, q_ptr, k_ptr, v_ptr, curvature_ptr, beta_ptr, sink_ptr, out_ptr, lse_ptr, factors_ptr,
    d_q_ptr, d_k_ptr, d_v_ptr, shares_ptr,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    N, H, chunk, chunks,
    WINDOW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROOT_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """All gradients of one chunk of blocks of one head. Tiles are [keys, queries]."""
    PRECISE: tl.constexpr = q_ptr.dtype.element_ty == tl.float32
    UNIT: tl.constexpr = 1.0 if PRECISE else LN2
    stream = tl.program_id(0) // chunks  # batch · H + head
    batch, head = (stream // H).to(tl.int64), stream % H
    start = tl.program_id(0) % chunks * chunk
    blocks = tl.cdiv(N, BLOCK)
    stop = tl.minimum(start + chunk, blocks)
    size = (tl.num_programs(0) // chunks).to(tl.int64) * N
    lse_ptr += stream.to(tl.int64) * N
    factors_q = factors_ptr + stream.to(tl.int64) * N
    factors_k = factors_q + 5 * size
    q_ptr += batch * q_batch + head * q_head
    k_ptr += batch * k_batch + head * k_head
    v_ptr += batch * v_batch + head * v_head
    first_row = (batch * N * H + head) * D
    out_ptr += first_row
    d_out_ptr += first_row
    out_row = H * D
    sqrt_c, scale = load_scalars(curvature_ptr, beta_ptr, ROOT_DIM)
    sink = tl.load(sink_ptr) / UNIT

    # Of the queries of blocks `at` and `at` + 1: what they have gathered from the keys before block `at`
    d_q0 = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    d_q1 = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    radial0 = tl.zeros([BLOCK], tl.float32)
    radial1 = tl.zeros([BLOCK], tl.float32)
    delta0 = tl.zeros([BLOCK], tl.float32)
    delta1 = tl.zeros([BLOCK], tl.float32)
    d_log = tl.zeros([BLOCK], tl.float32)
    by_sqrt_c = tl.zeros([BLOCK], tl.float32)
    d_sink = tl.zeros([BLOCK], tl.float32)
    # From two blocks before the first: its queries, and the next block's, see keys of the chunk before
    for at in range(start - 2, stop):
        keys = at * BLOCK + tl.arange(0, BLOCK)
        ahead = keys + 2 * BLOCK
        d_out = load_rows(d_out_ptr, ahead, out_row, N, D, BLOCK_D).to(tl.float32)
        delta2 = tl.sum(d_out * load_rows(out_ptr, ahead, out_row, N, D, BLOCK_D).to(tl.float32), axis=1)
        d_q2 = tl.zeros([BLOCK, BLOCK_D], tl.float32)
        radial2 = tl.zeros([BLOCK], tl.float32)
        if at >= 0:
            k = load_rows(k_ptr, keys, k_row, N, D, BLOCK_D)
            v = load_rows(v_ptr, keys, v_row, N, D, BLOCK_D)
            rows = load_factors(factors_k, size, keys, N, sqrt_c)
            slope_rho, slope_c = load_slopes(factors_k, size, keys, N)
            slopes = (slope_rho, slope_c, inside_clamp(rows[0], sqrt_c))
            d_k = tl.zeros([BLOCK, BLOCK_D], tl.float32)
            d_v = tl.zeros([BLOCK, BLOCK_D], tl.float32)
            none = tl.zeros([BLOCK, BLOCK], tl.float32)
            sums = (none, none, none, none)
            if at >= start:
                d_q0, radial0, d_k, d_v, sums = _add_tile(
                    d_q0, radial0, delta0, d_k, d_v, sums, k, v, rows, slopes, keys, keys,
                    q_ptr, d_out_ptr, lse_ptr, factors_q, q_row, out_row, size, N, sqrt_c, scale, sink,
                    True, WINDOW, D, BLOCK_D, UNIT,
                )  # fmt: skip
                q = load_rows(q_ptr, keys, q_row, N, D, BLOCK_D).to(tl.float32)
                rho = tl.load(factors_q + keys, mask=keys < N, other=1.0)
                gradient = -scale * row_gradient(q, d_q0, radial0, rho)
                store_rows(d_q_ptr + first_row, keys, out_row, gradient, N, D, BLOCK_D)
            if WINDOW > 1:
                if (at + 1 >= start) & (at + 1 < blocks):
                    d_q1, radial1, d_k, d_v, sums = _add_tile(
                        d_q1, radial1, delta1, d_k, d_v, sums, k, v, rows, slopes, keys, keys + BLOCK,
                        q_ptr, d_out_ptr, lse_ptr, factors_q, q_row, out_row, size, N, sqrt_c, scale, sink,
                        2 * BLOCK > WINDOW, WINDOW, D, BLOCK_D, UNIT,
                    )  # fmt: skip
            if WINDOW > BLOCK + 1:
                if at + 2 < blocks:
                    d_q2, radial2, d_k, d_v, sums = _add_tile(
                        d_q2, radial2, delta2, d_k, d_v, sums, k, v, rows, slopes, keys, ahead,
                        q_ptr, d_out_ptr, lse_ptr, factors_q, q_row, out_row, size, N, sqrt_c, scale, sink,
                        3 * BLOCK > WINDOW, WINDOW, D, BLOCK_D, UNIT,
                    )  # fmt: skip
            if at >= start:
                store_rows(d_v_ptr + first_row, keys, out_row, d_v, N, D, BLOCK_D)
                gradient = -scale * row_gradient(k.to(tl.float32), d_k, tl.sum(sums[0], axis=1), rows[0])
                store_rows(d_k_ptr + first_row, keys, out_row, gradient, N, D, BLOCK_D)
                d_log += tl.sum(sums[1], axis=1)
                by_sqrt_c += tl.sum(sums[2], axis=1)
                d_sink += tl.sum(sums[3], axis=1)
        d_q0, radial0, delta0 = d_q1, radial1, delta1
        d_q1, radial1, delta1 = d_q2, radial2, delta2

    store_partials(
        shares_ptr, tl.program_id(0), tl.num_programs(0),
        tl.sum(d_log), tl.sum(by_sqrt_c), tl.sum(d_sink), sqrt_c, scale, ROOT_DIM, UNIT,
    )  # fmt: skip
