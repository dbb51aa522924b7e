"""Windowed hyperbolic attention, v2 made fast: rows' factors once, small tiles, one backward kernel.

A block of queries sees three blocks of keys, in tiles small enough to stay in registers; what the band
0 ≤ i − j < window does not touch is never computed, and the middle tile needs no mask. The backward is in
`carried.py`. For windows above 65, whose tiles do not stay in registers, these are v1's loops.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# ruff: noqa: SIM102, SIM300  (upper-case names are constants of the compilation, with branches of their own)
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from . import v1
from .blocks import CARRIED_TILES, carried_chunk, carried_tile
from .carried import backward_kernel
from .geometry import LN2, logarithm, pair_distance, power
from .operation import (
    Gradients,
    Outputs,
    Scratch,
    constants,
    define,
    new_gradients,
    new_outputs,
    row_blocks,
    sizes,
    strides,
)
from .prologue import factor_count, load_factors, write_factors
from .tiles import load_rows, load_scalars, store_rows, visible

_TILES = tl.constexpr(CARRIED_TILES)


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, curvature_ptr, beta_ptr, sink_ptr, factors_ptr, out_ptr, lse_ptr,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    N, H,
    WINDOW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROOT_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    DTYPE: tl.constexpr = q_ptr.dtype.element_ty
    PRECISE: tl.constexpr = DTYPE == tl.float32
    UNIT: tl.constexpr = 1.0 if PRECISE else LN2
    blocks = tl.cdiv(N, BLOCK)
    stream = tl.program_id(0) // blocks  # batch · H + head
    batch, head = (stream // H).to(tl.int64), stream % H
    block = tl.program_id(0) % blocks
    size = (tl.num_programs(0) // blocks).to(tl.int64) * N
    factors_q = factors_ptr + stream.to(tl.int64) * N
    factors_k = factors_q + 5 * size
    queries = block * BLOCK + tl.arange(0, BLOCK)
    q = load_rows(q_ptr + batch * q_batch + head * q_head, queries, q_row, N, D, BLOCK_D)
    sqrt_c, scale = load_scalars(curvature_ptr, beta_ptr, ROOT_DIM)
    rows = load_factors(factors_q, size, queries, N, sqrt_c)

    # The sink is the first logit seen, with a weight of 1 and no value
    most = tl.zeros([BLOCK], tl.float32) + tl.load(sink_ptr) / UNIT
    total = tl.zeros([BLOCK], tl.float32) + 1
    out = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    for back in tl.static_range(_TILES):
        if back * BLOCK - BLOCK + 1 < WINDOW:  # the band touches this tile
            if block >= back:
                keys = queries - back * BLOCK
                k = load_rows(k_ptr + batch * k_batch + head * k_head, keys, k_row, N, D, BLOCK_D)
                v = load_rows(v_ptr + batch * v_batch + head * v_head, keys, v_row, N, D, BLOCK_D)
                columns = load_factors(factors_k, size, keys, N, sqrt_c)
                dot = tl.dot(q, tl.trans(k), input_precision="ieee")
                pairs = pair_distance(dot, rows, columns, PRECISE)
                logits = -scale * pairs[0]
                if back == 0 or (back + 1) * BLOCK > WINDOW:
                    logits = tl.where(visible(queries[:, None], keys[None, :], WINDOW), logits, float("-inf"))
                before = most
                most = tl.maximum(before, tl.max(logits, axis=1))
                weights = power(logits - most[:, None], PRECISE)
                shrink = power(before - most, PRECISE)
                total = total * shrink + tl.sum(weights, axis=1)
                out = out * shrink[:, None] + tl.dot(weights.to(DTYPE), v, input_precision="ieee")

    row = batch * N * H + head
    store_rows(out_ptr + row * D, queries, H * D, out / total[:, None], N, D, BLOCK_D)
    lse = (most + logarithm(total, PRECISE)) * UNIT
    tl.store(lse_ptr + stream.to(tl.int64) * N + queries, lse, mask=queries < N)


def _chunks(q: Tensor, block: int) -> tuple[int, int]:
    """(blocks a chunk, chunks a sequence) of the backward."""
    batch, n, heads, _ = q.shape
    chunk = carried_chunk(batch, heads, -(-n // block))
    return chunk, -(-n // (block * chunk))


def _forward(
    q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor, window: int
) -> Outputs:
    tile = carried_tile(window, q.shape[3], q.element_size(), backward=False)
    if tile is None:
        return v1.forward(q, k, v, curvature, beta, sink, window)
    out, lse, factors = outputs = new_outputs(q, SCRATCH, window)
    write_factors(q, k, curvature, factors)
    forward_kernel[(row_blocks(q, tile.block),)](
        q, k, v, curvature, beta, sink, factors, out, lse, *strides(q, k, v), *sizes(q),
        **constants(q, window), BLOCK=tile.block, num_warps=tile.warps,
    )  # fmt: skip
    return outputs


def _backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor,
    out: Tensor, lse: Tensor, factors: Tensor, window: int,
) -> Gradients:  # fmt: skip
    tile = carried_tile(window, q.shape[3], q.element_size(), backward=True)
    if tile is None:
        return v1.backward(d_out, q, k, v, curvature, beta, sink, out, lse, factors, window)
    chunk, chunks = _chunks(q, tile.block)
    d_q, d_k, d_v, shares, _delta = gradients = new_gradients(q, SCRATCH, window)
    backward_kernel[(q.shape[0] * q.shape[2] * chunks,)](
        d_out, q, k, v, curvature, beta, sink, out, lse, factors, d_q, d_k, d_v, shares,
        *strides(q, k, v), *sizes(q), chunk, chunks,
        **constants(q, window), BLOCK=tile.block, num_warps=tile.warps,
    )  # fmt: skip
    return gradients


def _factors(q: Tensor, window: int) -> int:
    tile = carried_tile(window, q.shape[3], q.element_size(), backward=False)
    return v1.SCRATCH.factors(q, window) if tile is None else factor_count(q)


def _shares(q: Tensor, window: int) -> int:
    """A share a program."""
    tile = carried_tile(window, q.shape[3], q.element_size(), backward=True)
    if tile is None:
        return v1.SCRATCH.shares(q, window)
    return q.shape[0] * q.shape[2] * _chunks(q, tile.block)[1]


def _delta(q: Tensor, window: int) -> int:
    tile = carried_tile(window, q.shape[3], q.element_size(), backward=True)
    return v1.SCRATCH.delta(q, window) if tile is None else 0


SCRATCH = Scratch(factors=_factors, shares=_shares, delta=_delta)
window_attention = define("fast", _forward, _backward, SCRATCH)
