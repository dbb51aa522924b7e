"""Windowed hyperbolic attention, plainly: a block of rows against a loop over tiles of the other side.

Forward as in flash attention, with a running maximum. Backward: a kernel by block of queries makes two passes
over their keys, for the rows' Σ P·dP and then for dQ; a kernel by block of keys sums dK and dV over queries.
The only version for any window.
"""

# ruff: noqa: SIM300  (an upper-case name is a constant of the compilation, not the literal side)
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .blocks import Tile, loop_tile
from .geometry import (
    LN2,
    inside_clamp,
    logarithm,
    operand,
    pair_distance,
    pair_gradients,
    power,
    radial_factors,
    radial_slopes,
    row_gradient,
    weighted_rows,
)
from .operation import (
    Gradients,
    Outputs,
    Scratch,
    constants,
    define,
    new_gradients,
    new_outputs,
    row_blocks,
    row_count,
    sizes,
    strides,
)
from .tiles import load_lse, load_rows, load_scalars, store_partials, store_rows, visible


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, curvature_ptr, beta_ptr, sink_ptr, out_ptr, lse_ptr,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    N, H,
    WINDOW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROOT_DIM: tl.constexpr,
    BLOCK: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    DTYPE: tl.constexpr = q_ptr.dtype.element_ty
    PRECISE: tl.constexpr = DTYPE == tl.float32
    UNIT: tl.constexpr = 1.0 if PRECISE else LN2
    blocks = tl.cdiv(N, BLOCK)
    head = tl.program_id(0) // blocks % H
    batch = (tl.program_id(0) // blocks // H).to(tl.int64)
    start = tl.program_id(0) % blocks * BLOCK
    queries = start + tl.arange(0, BLOCK)
    q = load_rows(q_ptr + batch * q_batch + head * q_head, queries, q_row, N, D, BLOCK_D)
    sqrt_c, scale = load_scalars(curvature_ptr, beta_ptr, ROOT_DIM)
    rows = radial_factors(q.to(tl.float32), sqrt_c, PRECISE)

    # The sink is the first logit seen, with a weight of 1 and no value
    most = tl.zeros([BLOCK], tl.float32) + tl.load(sink_ptr) / UNIT
    total = tl.zeros([BLOCK], tl.float32) + 1
    out = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    for first in range(tl.maximum(start - WINDOW + 1, 0), tl.minimum(start + BLOCK, N), SPAN):
        keys = first + tl.arange(0, SPAN)
        k = load_rows(k_ptr + batch * k_batch + head * k_head, keys, k_row, N, D, BLOCK_D)
        v = load_rows(v_ptr + batch * v_batch + head * v_head, keys, v_row, N, D, BLOCK_D)
        dot = tl.dot(q, tl.trans(k), input_precision="ieee")
        pairs = pair_distance(dot, rows, radial_factors(k.to(tl.float32), sqrt_c, PRECISE), PRECISE)
        seen = visible(queries[:, None], keys[None, :], WINDOW)
        logits = tl.where(seen, -scale * pairs[0], float("-inf"))
        before = most
        most = tl.maximum(before, tl.max(logits, axis=1))
        weights = power(logits - most[:, None], PRECISE)
        shrink = power(before - most, PRECISE)
        total = total * shrink + tl.sum(weights, axis=1)
        out = out * shrink[:, None] + tl.dot(weights.to(DTYPE), v, input_precision="ieee")

    row = batch * N * H + head
    store_rows(out_ptr + row * D, queries, H * D, out / total[:, None], N, D, BLOCK_D)
    lse = (most + logarithm(total, PRECISE)) * UNIT
    tl.store(lse_ptr + (batch * H + head) * N + queries, lse, mask=queries < N)


@triton.jit
def query_kernel(
    d_out_ptr, q_ptr, k_ptr, v_ptr, curvature_ptr, beta_ptr, sink_ptr, lse_ptr,
    d_q_ptr, delta_ptr, shares_ptr,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    N, H,
    WINDOW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROOT_DIM: tl.constexpr,
    BLOCK: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """dQ of one block of queries, and the scalars' shares of queries and scores."""
    DTYPE: tl.constexpr = q_ptr.dtype.element_ty
    PRECISE: tl.constexpr = DTYPE == tl.float32
    UNIT: tl.constexpr = 1.0 if PRECISE else LN2
    blocks = tl.cdiv(N, BLOCK)
    head = tl.program_id(0) // blocks % H
    batch = (tl.program_id(0) // blocks // H).to(tl.int64)
    start = tl.program_id(0) % blocks * BLOCK
    row = batch * N * H + head
    scalars = (batch * H + head) * N
    queries = start + tl.arange(0, BLOCK)
    q = load_rows(q_ptr + batch * q_batch + head * q_head, queries, q_row, N, D, BLOCK_D)
    d_out = load_rows(d_out_ptr + row * D, queries, H * D, N, D, BLOCK_D)
    lse = load_lse(lse_ptr + scalars, queries, N, UNIT)
    sqrt_c, scale = load_scalars(curvature_ptr, beta_ptr, ROOT_DIM)
    wide_q = q.to(tl.float32)
    rows = radial_factors(wide_q, sqrt_c, PRECISE)

    delta = tl.zeros([BLOCK], tl.float32)
    for first in range(tl.maximum(start - WINDOW + 1, 0), tl.minimum(start + BLOCK, N), SPAN):
        keys = first + tl.arange(0, SPAN)
        k = load_rows(k_ptr + batch * k_batch + head * k_head, keys, k_row, N, D, BLOCK_D)
        v = load_rows(v_ptr + batch * v_batch + head * v_head, keys, v_row, N, D, BLOCK_D)
        dot = tl.dot(q, tl.trans(k), input_precision="ieee")
        d_weight = tl.dot(d_out, tl.trans(v), input_precision="ieee")
        pairs = pair_distance(dot, rows, radial_factors(k.to(tl.float32), sqrt_c, PRECISE), PRECISE)
        seen = visible(queries[:, None], keys[None, :], WINDOW)
        weight = tl.where(seen, power(-scale * pairs[0] - lse[:, None], PRECISE), 0.0)
        delta += tl.sum(weight * d_weight, axis=1)
    tl.store(delta_ptr + scalars + queries, delta, mask=queries < N)

    weighted = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    sum_s = tl.zeros([BLOCK], tl.float32)
    sum_factor = tl.zeros([BLOCK], tl.float32)
    sum_g = tl.zeros([BLOCK], tl.float32)
    d_log = tl.zeros([BLOCK], tl.float32)
    for first in range(tl.maximum(start - WINDOW + 1, 0), tl.minimum(start + BLOCK, N), SPAN):
        keys = first + tl.arange(0, SPAN)
        k = load_rows(k_ptr + batch * k_batch + head * k_head, keys, k_row, N, D, BLOCK_D)
        v = load_rows(v_ptr + batch * v_batch + head * v_head, keys, v_row, N, D, BLOCK_D)
        dot = tl.dot(q, tl.trans(k), input_precision="ieee")
        d_weight = tl.dot(d_out, tl.trans(v), input_precision="ieee")
        columns = radial_factors(k.to(tl.float32), sqrt_c, PRECISE)
        pairs = pair_distance(dot, rows, columns, PRECISE)
        seen = visible(queries[:, None], keys[None, :], WINDOW)
        weight = tl.where(seen, power(-scale * pairs[0] - lse[:, None], PRECISE), 0.0)
        d_score = weight * (d_weight - delta[:, None])
        by_s, by_factor, by_gap = pair_gradients(d_score, pairs, DTYPE)
        weighted += weighted_rows(operand(by_gap, DTYPE), operand(k, DTYPE), DTYPE)
        sum_s += tl.sum(by_s, axis=1)
        sum_factor += tl.sum(by_factor, axis=1)
        sum_g += tl.sum(by_gap * columns[0][None, :], axis=1)
        d_log += tl.sum(d_score * pairs[0], axis=1)

    slope_rho, slope_c = radial_slopes(rows, sqrt_c, PRECISE)
    sum_s = 4 * inside_clamp(rows[0], sqrt_c) * sum_s
    gradient = row_gradient(wide_q, weighted, sqrt_c * sum_s + slope_rho * sum_factor + sum_g, rows[0])
    store_rows(d_q_ptr + row * D, queries, H * D, -scale * gradient, N, D, BLOCK_D)
    by_sqrt_c = tl.sum(rows[0] * sum_s + slope_c * sum_factor)
    d_sink = -tl.sum(power(tl.load(sink_ptr) / UNIT - lse, PRECISE) * delta)
    store_partials(
        shares_ptr, tl.program_id(0), 2 * tl.num_programs(0),
        tl.sum(d_log), by_sqrt_c, d_sink, sqrt_c, scale, ROOT_DIM, UNIT,
    )  # fmt: skip


@triton.jit
def key_kernel(
    d_out_ptr, q_ptr, k_ptr, v_ptr, curvature_ptr, beta_ptr, lse_ptr, delta_ptr,
    d_k_ptr, d_v_ptr, shares_ptr,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    N, H,
    WINDOW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROOT_DIM: tl.constexpr,
    BLOCK: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """dK and dV of one block of keys, the curvature's share of keys. Tiles are [keys, queries]."""
    DTYPE: tl.constexpr = q_ptr.dtype.element_ty
    PRECISE: tl.constexpr = DTYPE == tl.float32
    UNIT: tl.constexpr = 1.0 if PRECISE else LN2
    blocks = tl.cdiv(N, BLOCK)
    head = tl.program_id(0) // blocks % H
    batch = (tl.program_id(0) // blocks // H).to(tl.int64)
    start = tl.program_id(0) % blocks * BLOCK
    row = batch * N * H + head
    scalars = (batch * H + head) * N
    keys = start + tl.arange(0, BLOCK)
    k = load_rows(k_ptr + batch * k_batch + head * k_head, keys, k_row, N, D, BLOCK_D)
    v = load_rows(v_ptr + batch * v_batch + head * v_head, keys, v_row, N, D, BLOCK_D)
    sqrt_c, scale = load_scalars(curvature_ptr, beta_ptr, ROOT_DIM)
    wide_k = k.to(tl.float32)
    rows = radial_factors(wide_k, sqrt_c, PRECISE)

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
        columns = radial_factors(q.to(tl.float32), sqrt_c, PRECISE)
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

    store_rows(d_v_ptr + row * D, keys, H * D, d_v, N, D, BLOCK_D)
    slope_rho, slope_c = radial_slopes(rows, sqrt_c, PRECISE)
    sum_s = 4 * inside_clamp(rows[0], sqrt_c) * sum_s
    gradient = row_gradient(wide_k, weighted, sqrt_c * sum_s + slope_rho * sum_factor + sum_g, rows[0])
    store_rows(d_k_ptr + row * D, keys, H * D, -scale * gradient, N, D, BLOCK_D)
    by_sqrt_c = tl.sum(rows[0] * sum_s + slope_c * sum_factor)
    store_partials(
        shares_ptr, tl.num_programs(0) + tl.program_id(0), 2 * tl.num_programs(0),
        0.0, by_sqrt_c, 0.0, sqrt_c, scale, ROOT_DIM, UNIT,
    )  # fmt: skip


def _tile(q: Tensor, *, backward: bool) -> Tile:
    return loop_tile(q.shape[3], q.element_size(), backward=backward)


def forward(
    q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor, window: int
) -> Outputs:
    outputs, tile = new_outputs(q, SCRATCH, window), _tile(q, backward=False)
    forward_kernel[(row_blocks(q, tile.block),)](
        q, k, v, curvature, beta, sink, outputs[0], outputs[1], *strides(q, k, v), *sizes(q),
        **constants(q, window), BLOCK=tile.block, SPAN=tile.span, num_warps=tile.warps,
    )  # fmt: skip
    return outputs


def backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor,
    out: Tensor, lse: Tensor, factors: Tensor, window: int,
) -> Gradients:  # fmt: skip
    tile = _tile(q, backward=True)
    grid = (row_blocks(q, tile.block),)
    d_q, d_k, d_v, shares, delta = gradients = new_gradients(q, SCRATCH, window)
    options = constants(q, window) | {"BLOCK": tile.block, "SPAN": tile.span, "num_warps": tile.warps}
    query_kernel[grid](
        d_out,
        q,
        k,
        v,
        curvature,
        beta,
        sink,
        lse,
        d_q,
        delta,
        shares,
        *strides(q, k, v),
        *sizes(q),
        **options,
    )
    key_kernel[grid](
        d_out, q, k, v, curvature, beta, lse, delta, d_k, d_v, shares, *strides(q, k, v), *sizes(q), **options
    )
    return gradients


SCRATCH = Scratch(
    factors=lambda q, window: 0,
    shares=lambda q, window: 2 * row_blocks(q, _tile(q, backward=True).block),
    delta=row_count,
)
window_attention = define("v1", forward, backward, SCRATCH)
