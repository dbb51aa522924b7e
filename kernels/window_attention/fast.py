"""Windowed hyperbolic attention, v1's loops made fast: rows' factors once, small tiles, one warp a program.

A program has a block of 16 queries and meets its keys in tiles of 16, for any window. On an H200 at B=320,
N=256, H=8, D=64 in bf16 the kernel takes 204 µs, in programs of two warps (blocks of 32) 299, of four 263.
The backward is in `banded.py`.
"""

# ruff: noqa: SIM300  (an upper-case name is a constant of the compilation, not the literal side)
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .banded import key_kernel, query_kernel
from .blocks import banded_tile
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
    row_count,
    sizes,
    strides,
)
from .prologue import factor_count, load_factors, write_factors
from .tiles import load_rows, load_scalars, store_rows, visible


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, curvature_ptr, beta_ptr, sink_ptr, factors_ptr, out_ptr, lse_ptr,
    q_batch, q_row, q_head, k_batch, k_row, k_head, v_batch, v_row, v_head,
    N, H,
    WINDOW: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROOT_DIM: tl.constexpr,
    BLOCK: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    DTYPE: tl.constexpr = q_ptr.dtype.element_ty
    PRECISE: tl.constexpr = DTYPE == tl.float32
    UNIT: tl.constexpr = 1.0 if PRECISE else LN2
    blocks = tl.cdiv(N, BLOCK)
    stream = tl.program_id(0) // blocks  # batch · H + head
    batch, head = (stream // H).to(tl.int64), stream % H
    start = tl.program_id(0) % blocks * BLOCK
    size = (tl.num_programs(0) // blocks).to(tl.int64) * N
    factors_q = factors_ptr + stream.to(tl.int64) * N
    factors_k = factors_q + 5 * size
    queries = start + tl.arange(0, BLOCK)
    q = load_rows(q_ptr + batch * q_batch + head * q_head, queries, q_row, N, D, BLOCK_D)
    sqrt_c, scale = load_scalars(curvature_ptr, beta_ptr, ROOT_DIM)
    rows = load_factors(factors_q, size, queries, N, sqrt_c)

    # The sink is the first logit seen, with a weight of 1 and no value
    most = tl.zeros([BLOCK], tl.float32) + tl.load(sink_ptr) / UNIT
    total = tl.zeros([BLOCK], tl.float32) + 1
    out = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    for first in range(tl.maximum(start - WINDOW + 1, 0), tl.minimum(start + BLOCK, N), SPAN):
        keys = first + tl.arange(0, SPAN)
        k = load_rows(k_ptr + batch * k_batch + head * k_head, keys, k_row, N, D, BLOCK_D)
        v = load_rows(v_ptr + batch * v_batch + head * v_head, keys, v_row, N, D, BLOCK_D)
        columns = load_factors(factors_k, size, keys, N, sqrt_c)
        dot = tl.dot(q, tl.trans(k), input_precision="ieee")
        pairs = pair_distance(dot, rows, columns, PRECISE)
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
    tl.store(lse_ptr + stream.to(tl.int64) * N + queries, lse, mask=queries < N)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor, window: int
) -> Outputs:
    tile = banded_tile(q.shape[3], q.element_size(), backward=False)
    out, lse, factors = outputs = new_outputs(q, SCRATCH, window)
    write_factors(q, k, curvature, factors)
    forward_kernel[(row_blocks(q, tile.block),)](
        q, k, v, curvature, beta, sink, factors, out, lse, *strides(q, k, v), *sizes(q),
        **constants(q, window), **tile.options(),
    )  # fmt: skip
    return outputs


def _backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor,
    out: Tensor, lse: Tensor, factors: Tensor, window: int,
) -> Gradients:  # fmt: skip
    gradients = new_gradients(q, SCRATCH, window)
    write_gradients(d_out, q, k, v, curvature, beta, sink, out, lse, factors, window, gradients)
    return gradients


def write_gradients(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor,
    out: Tensor, lse: Tensor, factors: Tensor, window: int, gradients: Gradients,
) -> None:  # fmt: skip
    """The backward into given tensors; dq, dk, dv [B, N, H, D] through their strides, the last one 1."""
    d_q, d_k, d_v, shares, delta = gradients
    tile = banded_tile(q.shape[3], q.element_size(), backward=True)
    grid = (row_blocks(q, tile.block),)
    options = constants(q, window) | tile.options()
    query_kernel[grid](
        d_out, q, k, v, curvature, beta, sink, out, lse, factors, d_q, delta, shares,
        *strides(q, k, v, d_q), *sizes(q), **options,
    )  # fmt: skip
    key_kernel[grid](
        d_out, q, k, v, curvature, beta, lse, factors, delta, d_k, d_v, shares,
        *strides(q, k, v, d_k, d_v), *sizes(q), **options,
    )  # fmt: skip


def _shares(q: Tensor, window: int) -> int:
    """Two kernels leave a share a program."""
    return 2 * row_blocks(q, banded_tile(q.shape[3], q.element_size(), backward=True).block)


SCRATCH = Scratch(factors=lambda q, window: factor_count(q), shares=_shares, delta=row_count)
window_attention = define("fast", _forward, _backward, SCRATCH)
