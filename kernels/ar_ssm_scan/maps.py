# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"
"""Triton kernels of the first launch over a row that is cut into chunks: every segment becomes one map."""

from __future__ import annotations

import triton
import triton.language as tl

from ..segments import compose_affine, store_affine
from .decayed import segment_both, segment_state, segment_sum


@triton.jit
def sum_maps(
    x_ptr,  # [B, N, R], contiguous
    decay_ptr,  # [R]
    maps_ptr,  # [B, segments, 2, R]: factor and sum of a chunk's segments up to each
    n_seq,
    rank,
    length,
    REVERSE: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    lane = tl.arange(0, SEGMENTS)[:, None]
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (channel < rank) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    segment = tl.program_id(2) * SEGMENTS + lane
    decay = tl.load(decay_ptr + channel, mask=channel < rank, other=0.0)
    STEP: tl.constexpr = -1 if REVERSE else 1
    origin = n_seq - 1 if REVERSE else 0
    factor, y = segment_sum(
        x_ptr + row * n_seq * rank + channel, origin + STEP * segment * length, length, n_seq, rank, decay,
        mask, tl.zeros((SEGMENTS, BLOCK), tl.float32), STEP, TOKENS,
    )  # fmt: skip
    maps_ptr += row * tl.num_programs(2) * SEGMENTS * 2 * rank + channel
    store_affine(maps_ptr, segment, rank, mask, factor, y, 2)


@triton.jit
def gated_maps(
    gate_logits_ptr,  # [B, N, R]
    u_ptr,  # [B, N, R]
    decay_ptr,  # [R]
    maps_ptr,  # [B, segments, 2, R]: factor and state of a chunk's segments up to each
    n_seq,
    rank,
    length,
    stride_gate_row,
    stride_gate,
    stride_u_row,
    stride_u,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    lane = tl.arange(0, SEGMENTS)[:, None]
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (channel < rank) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    segment = tl.program_id(2) * SEGMENTS + lane
    decay = tl.load(decay_ptr + channel, mask=channel < rank, other=0.0)
    factor, state = segment_state(
        gate_logits_ptr + row * stride_gate_row + channel, u_ptr + row * stride_u_row + channel,
        segment * length, length, n_seq, stride_gate, stride_u, decay, mask,
        tl.zeros((SEGMENTS, BLOCK), tl.float32), TOKENS,
    )  # fmt: skip
    maps_ptr += row * tl.num_programs(2) * SEGMENTS * 2 * rank + channel
    store_affine(maps_ptr, segment, rank, mask, factor, state, 2)


@triton.jit
def gated_backward_maps(
    grad_ptr,  # [B, N, R], contiguous
    gate_logits_ptr,  # [B, N, R]
    u_ptr,  # [B, N, R]
    v_ptr,  # [B, N, R]
    decay_ptr,  # [R]
    maps_ptr,  # [B, segments, 3, R]: factor, state up to a segment, and counted from the end the adjoint
    n_seq,
    rank,
    length,
    stride_gate_row,
    stride_gate,
    stride_u_row,
    stride_u,
    stride_v_row,
    stride_v,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    lane = tl.arange(0, SEGMENTS)[:, None]
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (channel < rank) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    segment = tl.program_id(2) * SEGMENTS + lane
    end = tl.num_programs(2) * SEGMENTS * length - 1
    decay = tl.load(decay_ptr + channel, mask=channel < rank, other=0.0)
    factor, state, y = segment_both(
        grad_ptr + row * n_seq * rank + channel, gate_logits_ptr + row * stride_gate_row + channel,
        u_ptr + row * stride_u_row + channel, v_ptr + row * stride_v_row + channel,
        segment * length, end - segment * length, length, n_seq, rank, stride_gate, stride_u, stride_v,
        decay, mask, tl.zeros((SEGMENTS, BLOCK), tl.float32), TOKENS,
    )  # fmt: skip
    maps_ptr += row * tl.num_programs(2) * SEGMENTS * 3 * rank + channel
    store_affine(maps_ptr, segment, rank, mask, factor, state, 3)
    _, y = tl.associative_scan((factor, y), 0, compose_affine)
    tl.store(maps_ptr + (segment * 3 + 2) * rank, y, mask=mask)
