# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"
# ruff: noqa: RUF005 (Triton builds tuples by concatenation only)
"""Triton kernels of the fused gate: logits to hoppings, channel-wise resolvent, gate; and all of it backward.

Each way reads its inputs once (twice where the sequence is cut into segments) and writes its results once.
The forward pass keeps only the resolvent that enters every group of TOKENS tokens; the backward pass replays
a group from there in registers, then walks it in reverse: λ_i = W_i + μ_{i+1}, μ_i = t_i·g_i²·λ_i as in the
BK scan. With CHUNKED the maps of all segments come from a launch before (`maps.py`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..bk_scan.responses import (
    ADJOINT,
    RESPONSE,
    adjoint_entering_chunk,
    entering_resolvent,
    extend_response,
    next_resolvent,
    resolvent_entering_chunk,
)
from ..segments import compose_complex_affine, load_tokens, multiply


@triton.jit
def load_chain(abc_ptr, first, n_seq, d_model, stride_token, mask, TOKENS: tl.constexpr):
    """Tuples of tiles: on-site energies and sigmoid(c) of TOKENS tokens, sigmoid(b) from one token before.

    The hopping into token k of the group is b[k]·c[k]. That into token 0 of the sequence is not zero here,
    but nothing enters token 0, so it is never felt.
    """
    onsite = load_tokens(abc_ptr, first, 0, n_seq, stride_token, mask, TOKENS, 1)
    b_logits = load_tokens(abc_ptr + d_model, first - 1, 0, n_seq, stride_token, mask, TOKENS + 1, 1)
    c_logits = load_tokens(abc_ptr + 2 * d_model, first, 0, n_seq, stride_token, mask, TOKENS, 1)
    b = (tl.sigmoid(b_logits[0]),)
    c = ()
    for k in tl.static_range(TOKENS):
        b = b + (tl.sigmoid(b_logits[k + 1]),)
        c = c + (tl.sigmoid(c_logits[k]),)
    return onsite, b, c


@triton.jit
def replay(onsite, b, c, g_re, g_im, ENERGY_RE: tl.constexpr, ENERGY_IM: tl.constexpr, TOKENS: tl.constexpr):
    """Tuples of Re g and Im g: first the resolvent that enters the group, then those of its TOKENS tokens."""
    all_re, all_im = (g_re,), (g_im,)
    for k in tl.static_range(TOKENS):
        g_re, g_im = next_resolvent(onsite[k] - ENERGY_RE, -ENERGY_IM, b[k] * c[k], g_re, g_im)
        all_re, all_im = all_re + (g_re,), all_im + (g_im,)
    return all_re, all_im


@triton.jit
def segment_response(
    abc_ptr, first, length, n_seq, d_model, stride_abc, mask, zero,
    ENERGY_RE: tl.constexpr, ENERGY_IM: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """(q, r, s) of the `length` tokens from `first` on of each lane; zero: of the tile's shape."""
    q_re, q_im, r_re, r_im, s_re, s_im = zero, zero, zero, zero, zero + 1.0, zero
    for start in range(0, length, TOKENS):
        onsite, b, c = load_chain(abc_ptr, first + start, n_seq, d_model, stride_abc, mask, TOKENS)
        for k in tl.static_range(TOKENS):
            q_re, q_im, r_re, r_im, s_re, s_im = extend_response(
                onsite[k] - ENERGY_RE, -ENERGY_IM, b[k] * c[k], q_re, q_im, r_re, r_im, s_re, s_im
            )
    return q_re, q_im, r_re, r_im, s_re, s_im


@triton.jit
def segment_adjoint(
    grad_ptr, h_ptr, abc_ptr, entering_ptr, w_re, w_im, bias, first, length, n_seq, d_model, stride_h,
    stride_abc, mask, zero, ENERGY_RE: tl.constexpr, ENERGY_IM: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """μ ↦ a·μ + b of each lane's `length` tokens from `first` on, walked in reverse. Past the end h is read
    as 0: no gradient comes from there."""
    a_re, a_im, b_re, b_im = zero + 1.0, zero, zero, zero
    for start in range(0, length, TOKENS):
        token = first + length - TOKENS - start
        at = entering_ptr + (token // TOKENS) * 2 * d_model
        g_re = tl.load(at, mask=mask & (token < n_seq), other=0.0)
        g_im = tl.load(at + d_model, mask=mask & (token < n_seq), other=0.0)
        onsite, b, c = load_chain(abc_ptr, token, n_seq, d_model, stride_abc, mask, TOKENS)
        h = load_tokens(h_ptr, token, 0, n_seq, stride_h, mask, TOKENS, 1)
        grad = load_tokens(grad_ptr, token, 0, n_seq, d_model, mask, TOKENS, 1)
        all_re, all_im = replay(onsite, b, c, g_re, g_im, ENERGY_RE, ENERGY_IM, TOKENS)
        for k in tl.static_range(TOKENS - 1, -1, -1):
            gate = tl.sigmoid(w_re * all_re[k + 1] + w_im * all_im[k + 1] + bias)
            slope = grad[k] * h[k] * gate * (1.0 - gate)
            f_re, f_im = multiply(all_re[k + 1], all_im[k + 1], all_re[k + 1], all_im[k + 1])
            t = b[k] * c[k]
            a_re, a_im = multiply(t * f_re, t * f_im, a_re, a_im)
            b_re, b_im = multiply(t * f_re, t * f_im, b_re + w_re * slope, b_im - w_im * slope)
    return a_re, a_im, b_re, b_im


@triton.jit
def gate_forward(
    h_ptr,  # [B, N, d]
    abc_ptr,  # [B, N, 3d]
    weight_ptr,  # [2]
    bias_ptr,
    maps_ptr,  # [B, segments, 6, d], read with CHUNKED
    out_ptr,  # [B, N, d], contiguous
    entering_ptr,  # [B, groups, 2, d]: Re g, Im g entering every group of TOKENS tokens
    n_seq,
    d_model,
    length,
    stride_h_row,
    stride_h,
    stride_abc_row,
    stride_abc,
    ENERGY_RE: tl.constexpr,
    ENERGY_IM: tl.constexpr,
    CHUNKED: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    lane = tl.arange(0, SEGMENTS)[:, None]
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (channel < d_model) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(2)
    h_ptr += row * stride_h_row + channel
    abc_ptr += row * stride_abc_row + channel
    out_ptr += row * n_seq * d_model + channel
    groups = tl.cdiv(n_seq, TOKENS)
    entering_ptr += row * groups * 2 * d_model + channel
    w_re = tl.load(weight_ptr)
    w_im = tl.load(weight_ptr + 1)
    bias = tl.load(bias_ptr)
    zero = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    g_re, g_im = zero, zero
    if CHUNKED:
        maps_ptr += row * tl.num_programs(2) * SEGMENTS * RESPONSE * d_model + channel
        g_re, g_im = resolvent_entering_chunk(
            maps_ptr, chunk, lane, d_model, channel < d_model, SEGMENTS, BLOCK, TOKENS
        )
    elif SEGMENTS > 1:
        q_re, q_im, r_re, r_im, s_re, s_im = segment_response(
            abc_ptr, (lane - 1) * length, length, n_seq, d_model, stride_abc, mask, zero,
            ENERGY_RE, ENERGY_IM, TOKENS,
        )  # fmt: skip
        g_re, g_im = entering_resolvent(lane, q_re, q_im, r_re, r_im, s_re, s_im)
    for start in range(0, length, TOKENS):
        token = (chunk * SEGMENTS + lane) * length + start
        at = entering_ptr + (token // TOKENS) * 2 * d_model
        tl.store(at, g_re, mask=mask & (token < n_seq))
        tl.store(at + d_model, g_im, mask=mask & (token < n_seq))
        h = load_tokens(h_ptr, token, 0, n_seq, stride_h, mask, TOKENS, 1)
        onsite, b, c = load_chain(abc_ptr, token, n_seq, d_model, stride_abc, mask, TOKENS)
        for k in tl.static_range(TOKENS):
            g_re, g_im = next_resolvent(onsite[k] - ENERGY_RE, -ENERGY_IM, b[k] * c[k], g_re, g_im)
            out = h[k] * (1.0 + tl.sigmoid(w_re * g_re + w_im * g_im + bias))
            tl.store(
                out_ptr + (token + k) * d_model,
                out.to(out_ptr.dtype.element_ty),
                mask=mask & (token + k < n_seq),
            )


@triton.jit
def gate_backward(
    grad_ptr,  # [B, N, d], contiguous
    h_ptr,  # [B, N, d]
    abc_ptr,  # [B, N, 3d]
    weight_ptr,  # [2]
    bias_ptr,
    entering_ptr,  # [B, groups, 2, d]
    maps_ptr,  # [B, segments, 4, d], read with CHUNKED
    grad_h_ptr,  # [B, N, d], contiguous
    grad_abc_ptr,  # [B, N, 3d], contiguous
    grad_gate_ptr,  # [3, chunks, B, d]: each program's share of the gradients of w_0, w_1 and the bias
    n_seq,
    d_model,
    length,
    stride_h_row,
    stride_h,
    stride_abc_row,
    stride_abc,
    ENERGY_RE: tl.constexpr,
    ENERGY_IM: tl.constexpr,
    CHUNKED: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    # Lane 0 of chunk 0 has the last segment
    lane = tl.arange(0, SEGMENTS)[:, None]
    chunk = tl.program_id(2)
    segment = (tl.num_programs(2) - chunk) * SEGMENTS - 1 - lane
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (channel < d_model) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    grad_ptr += row * n_seq * d_model + channel
    grad_h_ptr += row * n_seq * d_model + channel
    grad_abc_ptr += row * n_seq * 3 * d_model + channel
    h_ptr += row * stride_h_row + channel
    abc_ptr += row * stride_abc_row + channel
    groups = tl.cdiv(n_seq, TOKENS)
    entering_ptr += row * groups * 2 * d_model + channel
    w_re = tl.load(weight_ptr)
    w_im = tl.load(weight_ptr + 1)
    bias = tl.load(bias_ptr)
    zero = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    mu_re, mu_im = zero, zero
    if CHUNKED:
        maps_ptr += row * tl.num_programs(2) * SEGMENTS * ADJOINT * d_model + channel
        mu_re, mu_im = adjoint_entering_chunk(
            maps_ptr, chunk, lane, d_model, channel < d_model, SEGMENTS, BLOCK, TOKENS
        )
    elif SEGMENTS > 1:
        a_re, a_im, b_re, b_im = segment_adjoint(
            grad_ptr, h_ptr, abc_ptr, entering_ptr, w_re, w_im, bias, (segment + 1) * length, length, n_seq,
            d_model, stride_h, stride_abc, mask, zero, ENERGY_RE, ENERGY_IM, TOKENS,
        )  # fmt: skip
        a_re, a_im, mu_re, mu_im = tl.associative_scan((a_re, a_im, b_re, b_im), 0, compose_complex_affine)
    total_re, total_im, total = zero, zero, zero
    for start in range(0, length, TOKENS):
        token = segment * length + length - TOKENS - start
        at = entering_ptr + (token // TOKENS) * 2 * d_model
        g_re = tl.load(at, mask=mask & (token < n_seq), other=0.0)
        g_im = tl.load(at + d_model, mask=mask & (token < n_seq), other=0.0)
        onsite, b, c = load_chain(abc_ptr, token, n_seq, d_model, stride_abc, mask, TOKENS)
        h = load_tokens(h_ptr, token, 0, n_seq, stride_h, mask, TOKENS, 1)
        grad = load_tokens(grad_ptr, token, 0, n_seq, d_model, mask, TOKENS, 1)
        all_re, all_im = replay(onsite, b, c, g_re, g_im, ENERGY_RE, ENERGY_IM, TOKENS)
        for k in tl.static_range(TOKENS - 1, -1, -1):
            inside = mask & (token + k < n_seq)
            gate = tl.sigmoid(w_re * all_re[k + 1] + w_im * all_im[k + 1] + bias)
            slope = grad[k] * h[k] * gate * (1.0 - gate)
            total_re += slope * all_re[k + 1]
            total_im += slope * all_im[k + 1]
            total += slope
            # db logit: Re(μ_{i+1}·g_i)·(1 − b_i);  dc logit: Re(μ_i·g_{i−1})·(1 − c_i)
            grad_b = (mu_re * all_re[k + 1] - mu_im * all_im[k + 1]) * (1.0 - b[k + 1])
            f_re, f_im = multiply(all_re[k + 1], all_im[k + 1], all_re[k + 1], all_im[k + 1])
            p_re, p_im = multiply(f_re, f_im, mu_re + w_re * slope, mu_im - w_im * slope)
            t = b[k] * c[k]
            mu_re, mu_im = t * p_re, t * p_im
            grad_c = (mu_re * all_re[k] - mu_im * all_im[k]) * (1.0 - c[k])
            grad_h = grad[k] * (1.0 + gate)
            tl.store(grad_h_ptr + (token + k) * d_model, grad_h.to(grad_h_ptr.dtype.element_ty), mask=inside)
            at = grad_abc_ptr + (token + k) * 3 * d_model
            tl.store(at, (-p_re).to(grad_abc_ptr.dtype.element_ty), mask=inside)
            tl.store(at + d_model, grad_b.to(grad_abc_ptr.dtype.element_ty), mask=inside)
            tl.store(at + 2 * d_model, grad_c.to(grad_abc_ptr.dtype.element_ty), mask=inside)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    shares = tl.num_programs(2).to(tl.int64) * tl.num_programs(1) * d_model
    at = grad_gate_ptr + (chunk * tl.num_programs(1) + row) * d_model + column
    tl.store(at, tl.sum(total_re, 0), mask=column < d_model)
    tl.store(at + shares, tl.sum(total_im, 0), mask=column < d_model)
    tl.store(at + 2 * shares, tl.sum(total, 0), mask=column < d_model)
