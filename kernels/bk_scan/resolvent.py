# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"
"""Triton kernels of the BK scan: forward and its exact adjoint, in segments of each chain.

λ_i = W_i + μ_{i+1}, μ_i = t_i·g_i²·λ_i, W = dL/dRe g − i·dL/dIm g, from the last token to the first. With
CHUNKED the maps of all segments come from a launch before (`maps.py`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..segments import compose_complex_affine, load_tokens, multiply
from .responses import (
    ADJOINT,
    RESPONSE,
    adjoint_entering_chunk,
    entering_resolvent,
    extend_response,
    next_resolvent,
    resolvent_entering_chunk,
)


@triton.jit
def segment_response(
    onsite_ptr, hopping_ptr, first, length, n_seq, chains, energy_re, alpha_im, mask, zero,
    HAS_HOPPING: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """(q, r, s) of the `length` tokens from `first` on of each lane; zero: of the tile's shape."""
    q_re, q_im, r_re, r_im, s_re, s_im = zero, zero, zero, zero, zero + 1.0, zero
    for start in range(0, length, TOKENS):
        token = first + start
        onsite = load_tokens(onsite_ptr, token, 0, n_seq, chains, mask, TOKENS, 1)
        if HAS_HOPPING:
            hopping = load_tokens(hopping_ptr, token, 1, n_seq, chains, mask, TOKENS, 1)
        for k in tl.static_range(TOKENS):
            t = 1.0
            if HAS_HOPPING:
                t = hopping[k]
            q_re, q_im, r_re, r_im, s_re, s_im = extend_response(
                onsite[k] - energy_re, alpha_im, t, q_re, q_im, r_re, r_im, s_re, s_im
            )
    return q_re, q_im, r_re, r_im, s_re, s_im


@triton.jit
def segment_adjoint(
    grad_re_ptr, grad_im_ptr, g_re_ptr, g_im_ptr, hopping_ptr, first, length, n_seq, chains, mask, zero,
    HAS_HOPPING: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """μ ↦ a·μ + b of the `length` tokens from `first` backwards of each lane. Tokens past the end are read as
    zeros, which give the map to 0."""
    a_re, a_im, b_re, b_im = zero + 1.0, zero, zero, zero
    for start in range(0, length, TOKENS):
        token = first - start
        g_re = load_tokens(g_re_ptr, token, 0, n_seq, chains, mask, TOKENS, -1)
        g_im = load_tokens(g_im_ptr, token, 0, n_seq, chains, mask, TOKENS, -1)
        w_re = load_tokens(grad_re_ptr, token, 0, n_seq, chains, mask, TOKENS, -1)
        w_im = load_tokens(grad_im_ptr, token, 0, n_seq, chains, mask, TOKENS, -1)
        if HAS_HOPPING:
            hopping = load_tokens(hopping_ptr, token, 1, n_seq, chains, mask, TOKENS, -1)
        for k in tl.static_range(TOKENS):
            f_re, f_im = multiply(g_re[k], g_im[k], g_re[k], g_im[k])
            if HAS_HOPPING:
                f_re, f_im = f_re * hopping[k], f_im * hopping[k]
            a_re, a_im = multiply(f_re, f_im, a_re, a_im)
            b_re, b_im = multiply(f_re, f_im, b_re + w_re[k], b_im - w_im[k])
    return a_re, a_im, b_re, b_im


@triton.jit
def resolvent_forward(
    onsite_ptr,  # [B, N, C]
    hopping_ptr,  # [B, N, C] or unused
    energy_re_ptr,
    energy_im_ptr,
    maps_ptr,  # [B, segments, 6, C], read with CHUNKED
    g_re_ptr,  # [B, N, C]
    g_im_ptr,  # [B, N, C]
    n_seq,
    chains,
    length,
    HAS_HOPPING: tl.constexpr,
    CHUNKED: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    lane = tl.arange(0, SEGMENTS)[:, None]
    chain = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (chain < chains) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(2)
    segment = chunk * SEGMENTS + lane
    offset = row * n_seq * chains + chain
    onsite_ptr += offset
    hopping_ptr += offset
    energy_re = tl.load(energy_re_ptr)
    alpha_im = -tl.load(energy_im_ptr)
    zero = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    g_re, g_im = zero, zero
    if CHUNKED:
        maps_ptr += row * tl.num_programs(2) * SEGMENTS * RESPONSE * chains + chain
        g_re, g_im = resolvent_entering_chunk(
            maps_ptr, chunk, lane, chains, chain < chains, SEGMENTS, BLOCK, TOKENS
        )
    elif SEGMENTS > 1:
        q_re, q_im, r_re, r_im, s_re, s_im = segment_response(
            onsite_ptr, hopping_ptr, (lane - 1) * length, length, n_seq, chains, energy_re, alpha_im, mask,
            zero, HAS_HOPPING, TOKENS,
        )  # fmt: skip
        g_re, g_im = entering_resolvent(lane, q_re, q_im, r_re, r_im, s_re, s_im)
    for start in range(0, length, TOKENS):
        token = segment * length + start
        onsite = load_tokens(onsite_ptr, token, 0, n_seq, chains, mask, TOKENS, 1)
        if HAS_HOPPING:
            hopping = load_tokens(hopping_ptr, token, 1, n_seq, chains, mask, TOKENS, 1)
        for k in tl.static_range(TOKENS):
            t = 1.0
            if HAS_HOPPING:
                t = hopping[k]
            g_re, g_im = next_resolvent(onsite[k] - energy_re, alpha_im, t, g_re, g_im)
            inside = mask & (token + k < n_seq)
            tl.store(g_re_ptr + offset + (token + k) * chains, g_re, mask=inside)
            tl.store(g_im_ptr + offset + (token + k) * chains, g_im, mask=inside)


@triton.jit
def resolvent_backward(
    grad_re_ptr,  # [B, N, C]: dL/dRe g
    grad_im_ptr,  # [B, N, C]: dL/dIm g
    g_re_ptr,  # [B, N, C]
    g_im_ptr,  # [B, N, C]
    hopping_ptr,  # [B, N, C] or unused
    maps_ptr,  # [B, segments, 4, C], read with CHUNKED
    grad_onsite_ptr,  # [B, N, C]
    grad_hopping_ptr,  # [B, N, C] or unused
    grad_energy_ptr,  # [2, chunks, B, C]: each program's share of the gradients of energy_re, energy_im
    n_seq,
    chains,
    length,
    HAS_HOPPING: tl.constexpr,
    CHUNKED: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    lane = tl.arange(0, SEGMENTS)[:, None]
    chain = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (chain < chains) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(2)
    segment = chunk * SEGMENTS + lane
    offset = row * n_seq * chains + chain
    grad_re_ptr += offset
    grad_im_ptr += offset
    g_re_ptr += offset
    g_im_ptr += offset
    hopping_ptr += offset
    zero = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    mu_re, mu_im = zero, zero
    if CHUNKED:
        maps_ptr += row * tl.num_programs(2) * SEGMENTS * ADJOINT * chains + chain
        mu_re, mu_im = adjoint_entering_chunk(
            maps_ptr, chunk, lane, chains, chain < chains, SEGMENTS, BLOCK, TOKENS
        )
    elif SEGMENTS > 1:
        a_re, a_im, b_re, b_im = segment_adjoint(
            grad_re_ptr, grad_im_ptr, g_re_ptr, g_im_ptr, hopping_ptr, n_seq - 1 - (lane - 1) * length,
            length, n_seq, chains, mask, zero, HAS_HOPPING, TOKENS,
        )  # fmt: skip
        a_re, a_im, mu_re, mu_im = tl.associative_scan((a_re, a_im, b_re, b_im), 0, compose_complex_affine)
    total_re, total_im = zero, zero
    for start in range(0, length, TOKENS):
        token = n_seq - 1 - (segment * length + start)
        # One token more: d(hopping) needs the resolvent before
        g_re = load_tokens(g_re_ptr, token, 0, n_seq, chains, mask, TOKENS + 1, -1)
        g_im = load_tokens(g_im_ptr, token, 0, n_seq, chains, mask, TOKENS + 1, -1)
        w_re = load_tokens(grad_re_ptr, token, 0, n_seq, chains, mask, TOKENS, -1)
        w_im = load_tokens(grad_im_ptr, token, 0, n_seq, chains, mask, TOKENS, -1)
        if HAS_HOPPING:
            hopping = load_tokens(hopping_ptr, token, 1, n_seq, chains, mask, TOKENS, -1)
        for k in tl.static_range(TOKENS):
            f_re, f_im = multiply(g_re[k], g_im[k], g_re[k], g_im[k])
            p_re, p_im = multiply(f_re, f_im, mu_re + w_re[k], mu_im - w_im[k])
            inside = mask & (token - k >= 0)
            at = offset + (token - k) * chains
            tl.store(grad_onsite_ptr + at, -p_re, mask=inside)
            mu_re, mu_im = p_re, p_im
            if HAS_HOPPING:
                mu_re, mu_im = p_re * hopping[k], p_im * hopping[k]
                grad_hopping = p_re * g_re[k + 1] - p_im * g_im[k + 1]
                tl.store(grad_hopping_ptr + at, grad_hopping, mask=inside)
            total_re += p_re
            total_im -= p_im
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = (chunk * tl.num_programs(1) + row) * chains + column
    tl.store(grad_energy_ptr + at, tl.sum(total_re, 0), mask=column < chains)
    at += tl.num_programs(2).to(tl.int64) * tl.num_programs(1) * chains
    tl.store(grad_energy_ptr + at, tl.sum(total_im, 0), mask=column < chains)
