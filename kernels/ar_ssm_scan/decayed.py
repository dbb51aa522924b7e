# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"
"""Triton kernels of the AR-SSM scan: the bare decayed sum, and the scan with its gates, both ways.

With CHUNKED the maps of all segments come from a launch before (`maps.py`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..segments import compose_affine, entering_affine, load_tokens


@triton.jit
def segment_sum(
    x_ptr, first, length, n_seq, rank, decay, mask, zero, STEP: tl.constexpr, TOKENS: tl.constexpr
):
    """y ↦ factor·y + sum of the `length` tokens from `first` on of each lane; zero: of the tile's shape."""
    y, factor = zero, zero + 1.0
    for start in range(0, length, TOKENS):
        x = load_tokens(x_ptr, first + STEP * start, 0, n_seq, rank, mask, TOKENS, STEP)
        for k in tl.static_range(TOKENS):
            y = decay * y + x[k]
            factor *= decay
    return factor, y


@triton.jit
def segment_state(
    gate_logits_ptr, u_ptr, first, length, n_seq, stride_gate, stride_u, decay, mask, zero,
    TOKENS: tl.constexpr,
):  # fmt: skip
    """s ↦ factor·s + state of the `length` tokens from `first` on of each lane."""
    state, factor = zero, zero + 1.0
    for start in range(0, length, TOKENS):
        token = first + start
        logits = load_tokens(gate_logits_ptr, token, 0, n_seq, stride_gate, mask, TOKENS, 1)
        u = load_tokens(u_ptr, token, 0, n_seq, stride_u, mask, TOKENS, 1)
        for k in tl.static_range(TOKENS):
            state = decay * state + (1.0 - decay) * tl.sigmoid(logits[k]) * u[k]
            factor *= decay
    return factor, state


@triton.jit
def segment_both(
    grad_ptr, gate_logits_ptr, u_ptr, v_ptr, first, last, length, n_seq, rank, stride_gate, stride_u,
    stride_v, decay, mask, zero, TOKENS: tl.constexpr,
):  # fmt: skip
    """As `segment_state` from `first` on, and y ↦ factor·y + … of the adjoint from `last` backwards."""
    state, y, factor = zero, zero, zero + 1.0
    for start in range(0, length, TOKENS):
        token = first + start
        logits = load_tokens(gate_logits_ptr, token, 0, n_seq, stride_gate, mask, TOKENS, 1)
        u = load_tokens(u_ptr, token, 0, n_seq, stride_u, mask, TOKENS, 1)
        token = last - start
        logits_back = load_tokens(gate_logits_ptr, token, 0, n_seq, stride_gate, mask, TOKENS, -1)
        v = load_tokens(v_ptr, token, 0, n_seq, stride_v, mask, TOKENS, -1)
        grad = load_tokens(grad_ptr, token, 0, n_seq, rank, mask, TOKENS, -1)
        for k in tl.static_range(TOKENS):
            state = decay * state + (1.0 - decay) * tl.sigmoid(logits[k]) * u[k]
            y = decay * y + grad[k] * tl.sigmoid(logits_back[k]) * v[k]
            factor *= decay
    return factor, state, y


@triton.jit
def decayed_sum(
    x_ptr,  # [B, N, R], contiguous
    decay_ptr,  # [R]
    maps_ptr,  # [B, segments, 2, R], read with CHUNKED
    y_ptr,  # [B, N, R], contiguous
    n_seq,
    rank,
    length,
    REVERSE: tl.constexpr,
    CHUNKED: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """y_i = λ·y_{i−1} + x_i, or from the end with REVERSE: y_i = λ·y_{i+1} + x_i."""
    lane = tl.arange(0, SEGMENTS)[:, None]
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (channel < rank) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(2)
    offset = row * n_seq * rank + channel
    decay = tl.load(decay_ptr + channel, mask=channel < rank, other=0.0)
    STEP: tl.constexpr = -1 if REVERSE else 1
    origin = n_seq - 1 if REVERSE else 0
    y = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    if CHUNKED:
        maps_ptr += row * tl.num_programs(2) * SEGMENTS * 2 * rank + channel
        y = entering_affine(maps_ptr, chunk, lane, rank, channel < rank, 1, 2, SEGMENTS, BLOCK, TOKENS)
    elif SEGMENTS > 1:
        first = origin + STEP * (lane - 1) * length
        factor, y = segment_sum(x_ptr + offset, first, length, n_seq, rank, decay, mask, y, STEP, TOKENS)
        _, y = tl.associative_scan((factor, y), 0, compose_affine)
    for start in range(0, length, TOKENS):
        token = origin + STEP * ((chunk * SEGMENTS + lane) * length + start)
        x = load_tokens(x_ptr + offset, token, 0, n_seq, rank, mask, TOKENS, STEP)
        for k in tl.static_range(TOKENS):
            at = token + STEP * k
            y = decay * y + x[k]
            tl.store(y_ptr + offset + at * rank, y, mask=mask & (at >= 0) & (at < n_seq))


@triton.jit
def gated_forward(
    gate_logits_ptr,  # [B, N, R]
    u_ptr,  # [B, N, R]
    v_ptr,  # [B, N, R]
    decay_ptr,  # [R]
    maps_ptr,  # [B, segments, 2, R], read with CHUNKED
    out_ptr,  # [B, N, R], contiguous
    n_seq,
    rank,
    length,
    stride_gate_row,
    stride_gate,
    stride_u_row,
    stride_u,
    stride_v_row,
    stride_v,
    CHUNKED: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """out_i = a_i·v_i·s_i with a = sigmoid(gate logits) and s_i = λ·s_{i−1} + (1 − λ)·a_i·u_i."""
    lane = tl.arange(0, SEGMENTS)[:, None]
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (channel < rank) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(2)
    gate_logits_ptr += row * stride_gate_row + channel
    u_ptr += row * stride_u_row + channel
    v_ptr += row * stride_v_row + channel
    out_ptr += row * n_seq * rank + channel
    decay = tl.load(decay_ptr + channel, mask=channel < rank, other=0.0)
    state = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    if CHUNKED:
        maps_ptr += row * tl.num_programs(2) * SEGMENTS * 2 * rank + channel
        state = entering_affine(maps_ptr, chunk, lane, rank, channel < rank, 1, 2, SEGMENTS, BLOCK, TOKENS)
    elif SEGMENTS > 1:
        factor, state = segment_state(
            gate_logits_ptr, u_ptr, (lane - 1) * length, length, n_seq, stride_gate, stride_u, decay, mask,
            state, TOKENS,
        )  # fmt: skip
        _, state = tl.associative_scan((factor, state), 0, compose_affine)
    for start in range(0, length, TOKENS):
        token = (chunk * SEGMENTS + lane) * length + start
        logits = load_tokens(gate_logits_ptr, token, 0, n_seq, stride_gate, mask, TOKENS, 1)
        u = load_tokens(u_ptr, token, 0, n_seq, stride_u, mask, TOKENS, 1)
        v = load_tokens(v_ptr, token, 0, n_seq, stride_v, mask, TOKENS, 1)
        for k in tl.static_range(TOKENS):
            gate = tl.sigmoid(logits[k])
            state = decay * state + (1.0 - decay) * gate * u[k]
            out = gate * v[k] * state
            inside = mask & (token + k < n_seq)
            tl.store(out_ptr + (token + k) * rank, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gated_backward(
    grad_ptr,  # [B, N, R], contiguous
    gate_logits_ptr,  # [B, N, R]
    u_ptr,  # [B, N, R]
    v_ptr,  # [B, N, R]
    decay_ptr,  # [R]
    maps_ptr,  # [B, segments, 3, R], read with CHUNKED
    grad_gate_logits_ptr,  # [B, N, R], contiguous
    state_ptr,  # [B, N, R] float32, contiguous: written by the first half for the second
    grad_u_ptr,  # [B, N, R], of the same strides as grad_v
    grad_v_ptr,
    n_seq,
    rank,
    length,
    stride_gate_row,
    stride_gate,
    stride_u_row,
    stride_u,
    stride_v_row,
    stride_v,
    stride_grad_row,
    stride_grad,
    CHUNKED: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """The state again, from the first token on; then backward
    y_i = dL/ds_i = grad_i·a_i·v_i + λ·y_{i+1}.

    A program has the same tokens both ways: backward they are counted from the end of the last segment.
    """
    lane = tl.arange(0, SEGMENTS)[:, None]
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (channel < rank) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(2)
    chunk_back = tl.num_programs(2) - 1 - chunk
    end = tl.num_programs(2) * SEGMENTS * length - 1
    gate_logits_ptr += row * stride_gate_row + channel
    u_ptr += row * stride_u_row + channel
    v_ptr += row * stride_v_row + channel
    offset = row * n_seq * rank + channel
    grad_ptr += offset
    state_ptr += offset
    grad_u_ptr += row * stride_grad_row + channel
    grad_v_ptr += row * stride_grad_row + channel
    decay = tl.load(decay_ptr + channel, mask=channel < rank, other=0.0)
    state = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    y = state
    if CHUNKED:
        maps_ptr += row * tl.num_programs(2) * SEGMENTS * 3 * rank + channel
        known = channel < rank
        state = entering_affine(maps_ptr, chunk, lane, rank, known, 1, 3, SEGMENTS, BLOCK, TOKENS)
        y = entering_affine(maps_ptr, chunk_back, lane, rank, known, 2, 3, SEGMENTS, BLOCK, TOKENS)
    elif SEGMENTS > 1:
        factor, state, y = segment_both(
            grad_ptr, gate_logits_ptr, u_ptr, v_ptr, (lane - 1) * length, end - (lane - 1) * length, length,
            n_seq, rank, stride_gate, stride_u, stride_v, decay, mask, state, TOKENS,
        )  # fmt: skip
        _, state = tl.associative_scan((factor, state), 0, compose_affine)
        _, y = tl.associative_scan((factor, y), 0, compose_affine)
    for start in range(0, length, TOKENS):
        token = (chunk * SEGMENTS + lane) * length + start
        logits = load_tokens(gate_logits_ptr, token, 0, n_seq, stride_gate, mask, TOKENS, 1)
        u = load_tokens(u_ptr, token, 0, n_seq, stride_u, mask, TOKENS, 1)
        for k in tl.static_range(TOKENS):
            state = decay * state + (1.0 - decay) * tl.sigmoid(logits[k]) * u[k]
            tl.store(state_ptr + (token + k) * rank, state, mask=mask & (token + k < n_seq))
    tl.debug_barrier()  # the second half reads what other threads of this program have just written
    for start in range(0, length, TOKENS):
        token = end - ((chunk_back * SEGMENTS + lane) * length + start)
        logits = load_tokens(gate_logits_ptr, token, 0, n_seq, stride_gate, mask, TOKENS, -1)
        u = load_tokens(u_ptr, token, 0, n_seq, stride_u, mask, TOKENS, -1)
        v = load_tokens(v_ptr, token, 0, n_seq, stride_v, mask, TOKENS, -1)
        grad = load_tokens(grad_ptr, token, 0, n_seq, rank, mask, TOKENS, -1)
        states = load_tokens(state_ptr, token, 0, n_seq, rank, mask, TOKENS, -1)
        for k in tl.static_range(TOKENS):
            gate = tl.sigmoid(logits[k])
            y = decay * y + grad[k] * gate * v[k]
            grad_input = (1.0 - decay) * y  # of a·u
            grad_gate = grad[k] * v[k] * states[k] + grad_input * u[k]
            grad_logits = grad_gate * gate * (1.0 - gate)
            inside = mask & (token - k < n_seq)
            kind = grad_u_ptr.dtype.element_ty
            at = (token - k) * stride_grad
            tl.store(grad_gate_logits_ptr + offset + (token - k) * rank, grad_logits.to(kind), mask=inside)
            tl.store(grad_u_ptr + at, (grad_input * gate).to(kind), mask=inside)
            tl.store(grad_v_ptr + at, (grad[k] * gate * states[k]).to(kind), mask=inside)
