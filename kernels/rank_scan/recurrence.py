# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
"""Triton kernels of the rank scan, p_t = M·p_{t−1} + w_t, forward and reversed.

`block_ends` and `scan_blocks` cut a row into blocks of SEGMENTS·LENGTH tokens, one program each: a step of
the recurrence moves all segments of a block at once, as the matrix product of [SEGMENTS, R] with [R, R]; what
enters the segments follows from their ends by doubling, with powers of M; what enters the blocks is the same
scan over their ends, with M to the power of a block.

REVERSE scans from the last token to the first with Mᵀ: λ_t = Mᵀ·λ_{t+1} + w_t, the adjoint. Then the gradient
of M is summed as well, Σ_t λ_t·p_{t−1}ᵀ.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(a, b):
    """a @ b of float32 tiles in float32, not tf32."""
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def step_matrix(matrix_ptr, rank, REVERSE: tl.constexpr, BLOCK: tl.constexpr):
    """What moves row vectors one token on, padded with zeros: Mᵀ, or M with REVERSE."""
    i = tl.arange(0, BLOCK)
    row, column = i[:, None], i[None, :]
    at = row * rank + column if REVERSE else column * rank + row
    return tl.load(matrix_ptr + at, mask=(row < rank) & (column < rank), other=0.0)


@triton.jit
def squared(matrix, TIMES: tl.constexpr):
    """matrix to the power 2^TIMES."""
    for _ in tl.static_range(TIMES):
        matrix = product(matrix, matrix)
    return matrix


@triton.jit
def shifted(x, BY: tl.constexpr, SEGMENTS: tl.constexpr):
    """Row s is x's row s − BY, the first BY rows are zero; exact, as a product with zeros and ones."""
    i = tl.arange(0, SEGMENTS)
    return product((i[:, None] == i[None, :] + BY).to(tl.float32), x)


@triton.jit
def accumulated(x, segment_power, LOG_SEGMENTS: tl.constexpr):
    """Row s is Σ_{j ≤ s} x_j·segment_power^(s − j), by doubling."""
    for level in tl.static_range(LOG_SEGMENTS):
        x += product(shifted(x, 1 << level, 1 << LOG_SEGMENTS), segment_power)
        segment_power = product(segment_power, segment_power)
    return x


@triton.jit
def load_step(pointer, index, wanted, n_seq, rank, REVERSE: tl.constexpr, BLOCK: tl.constexpr):
    """Tile [SEGMENTS, R] at positions `index` [SEGMENTS, 1] of the scan; zero outside, and if not wanted."""
    column = tl.arange(0, BLOCK)[None, :]
    token = n_seq - 1 - index if REVERSE else index
    inside = wanted & (token >= 0) & (token < n_seq) & (column < rank)
    return tl.load(pointer + token * rank + column, mask=inside, other=0.0)


@triton.jit
def segment_ends(
    w_ptr, index, wanted, step, n_seq, rank, REVERSE: tl.constexpr, LENGTH: tl.constexpr, BLOCK: tl.constexpr
):
    """The states [SEGMENTS, R] after LENGTH tokens from position `index` on, from zero."""
    state = load_step(w_ptr, index, wanted, n_seq, rank, REVERSE, BLOCK)
    for i in range(1, LENGTH):
        w = load_step(w_ptr, index + i, wanted, n_seq, rank, REVERSE, BLOCK)
        state = product(state, step) + w
    return state


@triton.jit
def block_ends(
    w_ptr,  # [B, N, R]
    matrix_ptr,  # [R, R]
    ends_ptr,  # [B, blocks − 1, R]: the state after every block but the last, if nothing entered it
    power_ptr,  # [R, R]: the matrix whose scan forward over the ends gives what enters the blocks
    n_seq,
    rank,
    REVERSE: tl.constexpr,
    LOG_SEGMENTS: tl.constexpr,
    LOG_LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    SEGMENTS: tl.constexpr = 1 << LOG_SEGMENTS
    LENGTH: tl.constexpr = 1 << LOG_LENGTH
    segment = tl.arange(0, SEGMENTS)[:, None]
    block = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    step = step_matrix(matrix_ptr, rank, REVERSE, BLOCK)
    index = (block * SEGMENTS + segment) * LENGTH
    state = segment_ends(
        w_ptr + row * n_seq * rank, index, segment >= 0, step, n_seq, rank, REVERSE, LENGTH, BLOCK
    )
    segment_power = squared(step, LOG_LENGTH)
    state = accumulated(state, segment_power, LOG_SEGMENTS)
    end = tl.sum(tl.where(segment == SEGMENTS - 1, state, 0.0), 0)
    i = tl.arange(0, BLOCK)
    tl.store(ends_ptr + (row * tl.num_programs(0) + block) * rank + i, end, mask=i < rank)
    if (block == 0) & (row == 0):
        known = (i[:, None] < rank) & (i[None, :] < rank)
        block_power = squared(segment_power, LOG_SEGMENTS)
        tl.store(power_ptr + i[None, :] * rank + i[:, None], block_power, mask=known)


@triton.jit
def scan_blocks(
    w_ptr,  # [B, N, R]
    matrix_ptr,  # [R, R]
    entering_ptr,  # [B, blocks − 1, R]: the state after every block but the last
    result_ptr,  # [B, N, R]: p, or λ with REVERSE
    p_ptr,  # [B, N, R], read with REVERSE
    grad_matrix_ptr,  # [B, blocks, R, R], written with REVERSE
    n_seq,
    rank,
    REVERSE: tl.constexpr,
    LOG_SEGMENTS: tl.constexpr,
    LOG_LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    SEGMENTS: tl.constexpr = 1 << LOG_SEGMENTS
    LENGTH: tl.constexpr = 1 << LOG_LENGTH
    segment = tl.arange(0, SEGMENTS)[:, None]
    i = tl.arange(0, BLOCK)
    block = tl.program_id(0)
    blocks = tl.num_programs(0)
    row = tl.program_id(1).to(tl.int64)
    offset = row * n_seq * rank
    step = step_matrix(matrix_ptr, rank, REVERSE, BLOCK)
    segment_power = squared(step, LOG_LENGTH)

    entering_ptr += (row * (blocks - 1) + block - 1) * rank + i
    entering = tl.load(entering_ptr, mask=(i < rank) & (block > 0), other=0.0)

    # Row s: the end of segment s − 1, which enters segment s
    index = (block * SEGMENTS + segment) * LENGTH
    state = segment_ends(
        w_ptr + offset, index - LENGTH, segment > 0, step, n_seq, rank, REVERSE, LENGTH, BLOCK
    )
    state = accumulated(tl.where(segment == 0, entering[None, :], state), segment_power, LOG_SEGMENTS)

    grad_matrix = tl.zeros((BLOCK, BLOCK), tl.float32)
    for k in range(LENGTH):
        w = load_step(w_ptr + offset, index + k, segment >= 0, n_seq, rank, REVERSE, BLOCK)
        state = product(state, step) + w
        token = n_seq - 1 - (index + k) if REVERSE else index + k
        inside = (token >= 0) & (token < n_seq) & (i[None, :] < rank)
        tl.store(result_ptr + offset + token * rank + i[None, :], state, mask=inside)
        if REVERSE:
            at = offset + (token - 1) * rank + i[None, :]
            p = tl.load(p_ptr + at, mask=inside & (token > 0), other=0.0)
            grad_matrix += product(tl.trans(state), p)
    if REVERSE:
        at = ((row * blocks + block) * rank + i[:, None]) * rank + i[None, :]
        tl.store(grad_matrix_ptr + at, grad_matrix, mask=(i[:, None] < rank) & (i[None, :] < rank))
