# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
"""Kernels of the fast loss: h @ Eᵀ with an epilogue that already exponentiates, and the row kernel after it.

Training. With l_t the logits of token t and y its target, the product's epilogue writes, instead of logits,
    P[t, v] = exp(l_tv − c_t),  c_t = l_ty + 40,  0 for v = y and beyond the vocabulary,
and the sums of P over its columns. c_t is known before the product (one dot product a token), so no second
pass over the logits is needed: with Z_t = Σ_v P[t, v] + exp(−40) the logits' gradient is P/Z − onehot, and
    P[t, y] ← −Σ_{v≠y} P[t, v]     (one number a row: the gradient's p_y − 1 without cancellation)
makes it P/Z everywhere. 1/Z is a factor of a row: it scales the rows of P @ E, and h before Pᵀ @ h.
bfloat16 has float32's range: P keeps its relative precision wherever the target's logit lies, and overflows
only where a logit exceeds the target's by more than 109 (its loss is above 109). Such rows are found
by their sum and written again around their own maximum, in the row kernel: slow, exact, rare.

Evaluation. The epilogue keeps maximum and sum of each row and tile; no logits are written.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
_LN2: tl.constexpr = tl.constexpr(0.6931471805599453)
_SHIFT: tl.constexpr = tl.constexpr(
    40.0 * 1.4426950408889634
)  # of c over the target's logit, in powers of two
_LARGEST_SUM: tl.constexpr = tl.constexpr(1e30)  # exp(109 − 40): beyond it a row is written again


@triton.jit
def target_logit_kernel(h, table, targets, out, STRIDE_H, D, VOCAB, BLOCK: tl.constexpr):
    """out[t] = log2 e · h_t · E[target]; NaN for a target that does not exist."""
    t = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + t)
    exists = (target >= 0) & (target < VOCAB)
    i = tl.arange(0, BLOCK)
    x = tl.load(h + t * STRIDE_H + i, mask=i < D, other=0.0).to(tl.float32)
    e = tl.load(table + target * D + i, mask=(i < D) & exists, other=0.0).to(tl.float32)
    tl.store(out + t, tl.where(exists, tl.sum(x * e, 0) * _LOG2E, float("nan")))


@triton.jit
def exponentials_kernel(
    h, table, targets, target_logits, exponentials, sums, tops,
    N, VOCAB, COLUMNS, STRIDE_H, TILES,
    D: tl.constexpr, TRAINING: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One tile of h @ tableᵀ [N, COLUMNS] with its epilogue: P and row sums, or row maxima and sums.

    Tiles of one block of columns are neighbours: the table is read once, h (2 MB a chunk) stays in L2.
    sums, tops [N, TILES] float32; everything in powers of two.
    """
    row_tiles = tl.cdiv(N, BLOCK_N)
    tile = tl.program_id(0) // row_tiles
    t = tl.program_id(0) % row_tiles * BLOCK_N + tl.arange(0, BLOCK_N)
    v = tile * BLOCK_V + tl.arange(0, BLOCK_V)
    i = tl.arange(0, BLOCK_D)
    # Rows beyond the chunk repeat its last one and are not stored: no masks in the loop
    h_tile = h + tl.minimum(t, N - 1).to(tl.int64)[:, None] * STRIDE_H + i[None, :]
    table_tile = table + tl.minimum(v, COLUMNS - 1).to(tl.int64)[None, :] * D + i[:, None]
    logits = tl.zeros([BLOCK_N, BLOCK_V], tl.float32)
    for start in range(0, D, BLOCK_D):
        if D % BLOCK_D == 0:
            a, b = tl.load(h_tile + start), tl.load(table_tile + start)
        else:
            a = tl.load(h_tile + start, mask=(start + i < D)[None, :], other=0.0)
            b = tl.load(table_tile + start, mask=(start + i < D)[:, None], other=0.0)
        logits = tl.dot(a, b, logits, input_precision=PRECISION)
    p = exponentiate(
        logits, t, v, targets, target_logits, sums, tops, N, VOCAB, tile, TILES, TRAINING
    )  # fmt: skip
    if TRAINING:
        at = exponentials + t.to(tl.int64)[:, None] * COLUMNS + v[None, :]
        inside = (t < N)[:, None] & (v < COLUMNS)[None, :]
        tl.store(at, p.to(exponentials.dtype.element_ty), mask=inside)


@triton.jit
def persistent_exponentials_kernel(
    h, table, exponentials, targets, target_logits, sums, tops,
    N, VOCAB, TILES, PROGRAMS,
    D: tl.constexpr, TRAINING: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """As exponentials_kernel, tiles in turn by PROGRAMS programs; h, table and exponentials are descriptors.

    The loop is flattened, so that loads of the next tile run while this one is exponentiated and stored: on
    an H200 at 2048 tokens 207 µs for d = 512 and 319 for 1024 where exponentials_kernel takes 237 and 375.
    """
    row_tiles = tl.cdiv(N, BLOCK_N)
    for index in tl.range(tl.program_id(0), row_tiles * TILES, PROGRAMS, flatten=True):
        tile = index // row_tiles
        row = index % row_tiles * BLOCK_N
        logits = tl.zeros([BLOCK_N, BLOCK_V], tl.float32)
        for start in range(0, D, BLOCK_D):
            a, b = h.load([row, start]), table.load([tile * BLOCK_V, start])
            logits = tl.dot(a, b.T, logits, input_precision=PRECISION)
        t = row + tl.arange(0, BLOCK_N)
        v = tile * BLOCK_V + tl.arange(0, BLOCK_V)
        p = exponentiate(
            logits, t, v, targets, target_logits, sums, tops, N, VOCAB, tile, TILES, TRAINING
        )  # fmt: skip
        if TRAINING:
            exponentials.store([row, tile * BLOCK_V], p.to(exponentials.dtype))


@triton.jit
def exponentiate(
    logits, t, v, targets, target_logits, sums, tops, N, VOCAB, tile, TILES, TRAINING: tl.constexpr
):  # fmt: skip
    """The epilogue of one tile [t, v]: stores its row sums and, evaluating, maxima; returns P in training."""
    inside = t < N
    target = tl.load(targets + t, mask=inside, other=-1).to(tl.int32)
    others = (v < VOCAB)[None, :] & (v[None, :] != target[:, None])
    statistic = t.to(tl.int64) * TILES + tile
    if TRAINING:
        reference = tl.load(target_logits + t, mask=inside, other=0.0) + _SHIFT
        p = tl.where(others, tl.exp2(logits * _LOG2E - reference[:, None]), 0.0)
        tl.store(sums + statistic, tl.sum(p, 1), mask=inside)
    else:
        scaled = tl.where(others, logits * _LOG2E, -float("inf"))
        top = tl.maximum(tl.max(scaled, 1), -1e30)  # finite where the tile has padding only
        p = tl.exp2(scaled - top[:, None])
        tl.store(sums + statistic, tl.sum(p, 1), mask=inside)
        tl.store(tops + statistic, top, mask=inside)
    return p


@triton.jit
def finish_rows_kernel(
    h, table, targets, target_logits, exponentials, sums, losses, inverse, scaled_h,
    VOCAB, COLUMNS, STRIDE_H, TILES,
    D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Row t after its product: loss, P[t, target], inverse[t] = 1/Z and scaled_h = h/Z."""
    t = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + t)
    exists = (target >= 0) & (target < VOCAB)
    chosen = tl.load(target_logits + t)
    tile = tl.arange(0, BLOCK_T)
    others = tl.sum(tl.load(sums + t * TILES + tile, mask=tile < TILES, other=0.0), 0)
    reference = chosen + _SHIFT
    if others > _LARGEST_SUM:
        reference, others = write_row_again(
            h + t * STRIDE_H, table, target, exponentials + t * COLUMNS, VOCAB, D, BLOCK_V, BLOCK_D
        )
    total = others + tl.exp2(chosen - reference)
    excess = tl.log2(others) + reference - chosen  # of the others' logsumexp over the target's logit
    # log2(1 + 2^excess), exact for large and small
    softplus = tl.maximum(excess, 0.0) + log2_of_one_plus(tl.exp2(-tl.abs(excess)))
    tl.store(losses + t, softplus * _LN2)
    tl.store(inverse + t, 1.0 / total)
    tl.store(exponentials + t * COLUMNS + target, (-others).to(exponentials.dtype.element_ty), mask=exists)
    i = tl.arange(0, BLOCK_H)
    x = tl.load(h + t * STRIDE_H + i, mask=i < D, other=0.0).to(tl.float32)
    tl.store(scaled_h + t * D + i, (x / total).to(scaled_h.dtype.element_ty), mask=i < D)


@triton.jit
def log2_of_one_plus(x):
    """log2(1 + x) for 0 ≤ x ≤ 1, to the last bits of float32 for small x too."""
    u = 1.0 + x
    # The rounding of 1 + x is undone: log(u)·x/(u − 1) (Kahan)
    return tl.where(u == 1.0, x * _LOG2E, tl.log2(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit
def write_row_again(
    h, table, target, exponentials, VOCAB, D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """P of one row around its own maximum; returns the maximum (in powers of two) and the sum."""
    top = -float("inf")
    for start in range(0, VOCAB, BLOCK_V):
        v = start + tl.arange(0, BLOCK_V)
        x = row_logits(h, table, v, (v < VOCAB) & (v != target), D, BLOCK_V, BLOCK_D)
        top = tl.maximum(top, tl.max(x, 0))
    total = 0.0
    for start in range(0, VOCAB, BLOCK_V):
        v = start + tl.arange(0, BLOCK_V)
        x = row_logits(h, table, v, (v < VOCAB) & (v != target), D, BLOCK_V, BLOCK_D)
        p = tl.exp2(x - top)
        total += tl.sum(p, 0)
        # The target's column is the caller's: it has been 0 since the product
        tl.store(exponentials + v, p.to(exponentials.dtype.element_ty), mask=(v < VOCAB) & (v != target))
    return top, total


@triton.jit
def row_logits(h, table, v, valid, D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr):
    """log2 e · h · E[v] of one token, −∞ where not valid."""
    total = tl.zeros([BLOCK_V], tl.float32)
    for start in range(0, D, BLOCK_D):
        i = start + tl.arange(0, BLOCK_D)
        x = tl.load(h + i, mask=i < D, other=0.0).to(tl.float32)
        mask = valid[:, None] & (i < D)[None, :]
        e = tl.load(table + v.to(tl.int64)[:, None] * D + i[None, :], mask=mask, other=0.0).to(tl.float32)
        total += tl.sum(e * x[None, :], 1)
    return tl.where(valid, total * _LOG2E, -float("inf"))


@triton.jit
def losses_kernel(
    target_logits, sums, tops, losses, TILES, BLOCK_T: tl.constexpr
):  # fmt: skip
    """losses[t] from maxima and sums of every tile."""
    t = tl.program_id(0).to(tl.int64)
    tile = tl.arange(0, BLOCK_T)
    inside = tile < TILES
    top = tl.load(tops + t * TILES + tile, mask=inside, other=-1e30)
    total = tl.load(sums + t * TILES + tile, mask=inside, other=0.0)
    largest = tl.max(top, 0)
    others = tl.log2(tl.sum(total * tl.exp2(top - largest), 0)) + largest
    excess = others - tl.load(target_logits + t)
    loss = tl.maximum(excess, 0.0) + log2_of_one_plus(tl.exp2(-tl.abs(excess)))
    tl.store(losses + t, loss * _LN2)
