"""What the attention kernels read and write: rows of a head, the scalars, the visibility of pairs."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_rows(pointer, rows, stride, N, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows [R] of one head → [R, BLOCK_D] in the compute dtype; zeros outside [0, N) and beyond D."""
    columns = tl.arange(0, BLOCK_D)
    mask = ((rows >= 0) & (rows < N))[:, None]
    if D != BLOCK_D:
        mask = mask & (columns < D)[None, :]
    return tl.load(pointer + rows.to(tl.int64)[:, None] * stride + columns[None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(pointer, rows, stride, values, N, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """The inverse of `load_rows`; casts to the pointer's dtype."""
    columns = tl.arange(0, BLOCK_D)
    mask = (rows < N)[:, None]
    if D != BLOCK_D:
        mask = mask & (columns < D)[None, :]
    where = pointer + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(where, values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def load_scalars(curvature_ptr, beta_ptr, ROOT_DIM: tl.constexpr):
    """(√c, β√D/√c)."""
    sqrt_c = tl.sqrt_rn(tl.load(curvature_ptr))
    return sqrt_c, tl.load(beta_ptr) * ROOT_DIM / sqrt_c


@triton.jit
def visible(queries, keys, WINDOW: tl.constexpr):
    """Whether 0 ≤ i − j < window and j ≥ 0, of queries and keys that broadcast against each other."""
    return (queries >= keys) & (queries - keys < WINDOW) & (keys >= 0)


@triton.jit
def load_lse(pointer, rows, N, UNIT: tl.constexpr):
    """lse of queries [R] in units of logits; ∞ beyond N, where all weights are then 0."""
    return tl.load(pointer + rows, mask=rows < N, other=float("inf")) / UNIT


@triton.jit
def store_partials(
    pointer,
    program,
    programs,
    d_log,
    by_sqrt_c,
    d_sink,
    sqrt_c,
    scale,
    ROOT_DIM: tl.constexpr,
    UNIT: tl.constexpr,
):
    """One program's share of the gradients of curvature, beta and sink.

    d_log = Σ dS·log(1 + …) in units of logits; by_sqrt_c = the sum of what `row_gradients` returned.
    """
    d_log = d_log * UNIT
    by_sqrt_c = scale * (d_log / sqrt_c - by_sqrt_c)  # score = −β√D·log/√c
    tl.store(pointer + program, by_sqrt_c / (2 * sqrt_c))
    tl.store(pointer + programs + program, -ROOT_DIM / sqrt_c * d_log)
    tl.store(pointer + 2 * programs + program, d_sink)
