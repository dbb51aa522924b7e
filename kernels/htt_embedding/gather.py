# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
"""Triton kernels of the embedding: rows gathered and contracted, and the gradients of cores and positions.

Nothing of size [T, r, d1] is written: a row is contracted where it is needed. Forward, a token reads 2·r·√d
numbers from cores that stay in cache (0.3 MB at small) and writes d. Bound by L1, 8·r·d bytes, 65 KB a token
at small, and by the 2·d bytes written in 16 bits. Backward: 2·d bytes read three times, 4·r·d FLOP a token
with sums in float32 (the reference's are too). What bounds it is the latency of a token's loads: programs are
short and many, and each has several tokens in flight.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gather_kernel(
    tokens, core1, core2, cosines, positions, out,
    STRIDE_B, STRIDE_N, STRIDE_P, N, VOCAB, V2, D,
    RANK: tl.constexpr, D1: tl.constexpr, D2: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[t, a·d2 + b] = Σ_k cosines[k] · core1[i1, k, a] · core2[i2, k, b] + positions[n, a·d2 + b].

    A token a program: cosines computed here, by each, would cost more than its products. A token outside
    [0, v1·v2) gives NaN and reads nothing.
    """
    t = tl.program_id(0).to(tl.int64)
    entry = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    n = t % N
    token = tl.load(tokens + t // N * STRIDE_B + n * STRIDE_N)
    exists = (token >= 0) & (token < VOCAB)
    left = core1 + token // V2 * RANK * D1 + entry // D2
    right = core2 + token % V2 * RANK * D2 + entry % D2
    inside = (entry < D) & exists
    total = tl.zeros([BLOCK], tl.float32)
    for k in range(RANK):
        product = tl.load(left + k * D1, mask=inside, other=0.0) * tl.load(cosines + k)
        total += product * tl.load(right + k * D2, mask=inside, other=0.0)
    total += tl.load(positions + n * STRIDE_P + entry, mask=entry < D, other=0.0)
    total = tl.where(exists, total, float("nan"))
    tl.store(out + t * D + entry, total.to(out.dtype.element_ty), mask=entry < D)


@triton.jit
def position_gradient_kernel(
    grad, out, B, N, STRIDE_B, STRIDE_N, D, BLOCK: tl.constexpr
):  # fmt: skip
    """out[n] = Σ_b grad[b, n] in float32, in the order of b; 0 for positions beyond the sequence."""
    n = tl.program_id(0).to(tl.int64)
    entry = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = (entry < D) & (n < N)
    total = tl.zeros([BLOCK], tl.float32)
    source = grad + n * STRIDE_N + entry
    for _ in range(B):
        total += tl.load(source, mask=mask, other=0.0).to(tl.float32)
        source += STRIDE_B
    tl.store(out + n * D + entry, total, mask=entry < D)


@triton.jit
def core_gradient_kernel(
    grad, tokens, order, starts, core, cosines, out,
    STRIDE_B, STRIDE_N, N, ROWS, V2, D,
    RANK: tl.constexpr, P: tl.constexpr, STRIDE_P: tl.constexpr, Q: tl.constexpr, STRIDE_Q: tl.constexpr,
    FIRST: tl.constexpr, PART: tl.constexpr, ROW_BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """out[program, k, p] = Σ_{t in its tokens} Σ_q grad[t, p, q] · core[other row of t, k, q], in float32.

    `order`: positions sorted by core row, `tokens`: the tokens there, `starts` [ROWS + 1]: where rows begin.
    Every row is cut into parts of PART tokens, counted over the rows in order, and program i takes the i-th
    part (none beyond the last, it writes nothing). TOKENS tokens at a time are one product over (token, q).
    FIRST: gradient of cos φ · core1 through core2, p = a, q = b; else of core2 through core1, p = b, q = a.
    """
    program = tl.program_id(0)
    begin, end = part_bounds(starts, program, ROWS, PART, ROW_BLOCK)
    if begin >= end:
        return
    begin, end = begin.to(tl.int32), end.to(tl.int32)
    p, k = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_R)
    pair = tl.arange(0, TOKENS * BLOCK_Q)
    total = tl.zeros([BLOCK_P, BLOCK_R], tl.float32)
    Q_BLOCKS: tl.constexpr = (Q + BLOCK_Q - 1) // BLOCK_Q
    for step in range(tl.cdiv(end - begin, TOKENS) * Q_BLOCKS):
        at = begin + step // Q_BLOCKS * TOKENS + pair // BLOCK_Q
        q = step % Q_BLOCKS * BLOCK_Q + pair % BLOCK_Q
        present = (at < end) & (q < Q)
        t = tl.load(order + at, mask=present, other=0).to(tl.int32)
        token = tl.load(tokens + at, mask=present, other=0).to(tl.int32)
        other = token % V2 if FIRST else token // V2
        source = grad + (t // N).to(tl.int64) * STRIDE_B + (t % N).to(tl.int64) * STRIDE_N
        entry = p[:, None] * STRIDE_P + (q * STRIDE_Q)[None, :]
        inside = (p < P)[:, None] & present[None, :] & (entry < D)
        in_core = present[:, None] & (k < RANK)[None, :]
        tile = tl.load(source[None, :] + entry, mask=inside, other=0.0)
        factor = tl.load(core + (other * RANK * Q + q)[:, None] + (k * Q)[None, :], mask=in_core, other=0.0)
        total = tl.dot(tile.to(tl.float32), factor, total, input_precision=PRECISION)
    if not FIRST:
        total *= tl.load(cosines + k, mask=k < RANK, other=0.0)[None, :]
    stored = (p < P)[:, None] & (k < RANK)[None, :]
    tl.store(out + (program.to(tl.int64) * RANK + k[None, :]) * P + p[:, None], total, mask=stored)


@triton.jit
def part_bounds(starts, index, ROWS, PART: tl.constexpr, ROW_BLOCK: tl.constexpr):
    """First and last + 1 sorted token of part `index`; an empty range beyond the last part."""
    row = tl.arange(0, ROW_BLOCK)
    first = tl.load(starts + row, mask=row < ROWS, other=0)
    last = tl.load(starts + row + 1, mask=row < ROWS, other=0)
    parts = (last - first + PART - 1) // PART
    before = tl.cumsum(parts, 0) - parts
    mine = (before <= index) & (index < before + parts)
    begin = tl.sum(tl.where(mine, first + (index - before) * PART, 0), 0)
    end = tl.sum(tl.where(mine, tl.minimum(first + (index - before + 1) * PART, last), 0), 0)
    return begin, end


@triton.jit
def sum_parts_kernel(
    parts, starts, out, SIZE, PART: tl.constexpr, ROW_BLOCK: tl.constexpr,
    AT_ONCE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[x] = Σ of the parts of row x, each `SIZE` numbers: AT_ONCE sums side by side, then over them.

    A row of frequent tokens has hundreds of parts: one after the other they would be as many latencies.
    """
    x = tl.program_id(0)
    row = tl.arange(0, ROW_BLOCK)
    first = tl.load(starts + row, mask=row <= x, other=0)
    last = tl.load(starts + row + 1, mask=row <= x, other=0)
    counts = (last - first + PART - 1) // PART
    end = tl.sum(counts, 0)
    begin = end - tl.sum(tl.where(row == x, counts, 0), 0)
    entry = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    lane = tl.arange(0, AT_ONCE)
    total = tl.zeros([AT_ONCE, BLOCK], tl.float32)
    for part in range(begin, end, AT_ONCE):
        mask = (part + lane < end)[:, None] & (entry < SIZE)[None, :]
        total += tl.load(parts + (part + lane)[:, None] * SIZE + entry[None, :], mask=mask, other=0.0)
    tl.store(out + x.to(tl.int64) * SIZE + entry, tl.sum(total, 0), mask=entry < SIZE)
