# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"
"""Triton kernels of the BK scan: forward and its exact adjoint, in segments of each chain.

A stretch of the chain maps the resolvent g that enters it to q + s·g/(1 − r·g). q and r are the resolvents at
its two ends and s couples them, so all three are bounded by 1/Im z and powers of it: unlike a product of 2×2
Möbius matrices nothing overflows, nothing needs renormalising, and it takes three numbers, not four.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..segments import compose_complex_affine, load_tokens, multiply


@triton.jit
def reciprocal(re, im):
    """1 / (re + i·im)."""
    scale = 1.0 / (re * re + im * im)
    return re * scale, -im * scale


@triton.jit
def next_resolvent(alpha_re, alpha_im, t, g_re, g_im):
    """g ↦ 1/(α − t·g)."""
    return reciprocal(alpha_re - t * g_re, alpha_im - t * g_im)


@triton.jit
def extend_response(alpha_re, alpha_im, t, q_re, q_im, r_re, r_im, s_re, s_im):
    """The response (q, r, s) of a stretch with one more site α at its end, joined by hopping t."""
    q_re, q_im = next_resolvent(alpha_re, alpha_im, t, q_re, q_im)
    u_re, u_im = multiply(t * q_re, t * q_im, s_re, s_im)
    s_re, s_im = multiply(u_re, u_im, q_re, q_im)
    return q_re, q_im, r_re + u_re, r_im + u_im, s_re, s_im


@triton.jit
def compose_responses(q1_re, q1_im, r1_re, r1_im, s1_re, s1_im, q2_re, q2_im, r2_re, r2_im, s2_re, s2_im):
    """The response of two stretches in a row: with D = 1 − r2·q1 it is
    q = q2 + s2·q1/D,  r = r1 + r2·s1/D,  s = s1·s2/D²."""
    rq_re, rq_im = multiply(r2_re, r2_im, q1_re, q1_im)
    d_re, d_im = reciprocal(1.0 - rq_re, -rq_im)
    u_re, u_im = multiply(s2_re, s2_im, d_re, d_im)
    w_re, w_im = multiply(s1_re, s1_im, d_re, d_im)
    uq_re, uq_im = multiply(u_re, u_im, q1_re, q1_im)
    rw_re, rw_im = multiply(r2_re, r2_im, w_re, w_im)
    s_re, s_im = multiply(u_re, u_im, w_re, w_im)
    return q2_re + uq_re, q2_im + uq_im, r1_re + rw_re, r1_im + rw_im, s_re, s_im


@triton.jit
def entering_resolvent(lane, q_re, q_im, r_re, r_im, s_re, s_im):
    """g entering each lane's segment, from the responses of the segments before; lane 0 has none."""
    first = lane == 0
    q_re, q_im = tl.where(first, 0.0, q_re), tl.where(first, 0.0, q_im)
    r_re, r_im = tl.where(first, 0.0, r_re), tl.where(first, 0.0, r_im)
    s_re, s_im = tl.where(first, 1.0, s_re), tl.where(first, 0.0, s_im)
    q_re, q_im, r_re, r_im, s_re, s_im = tl.associative_scan(
        (q_re, q_im, r_re, r_im, s_re, s_im), 0, compose_responses
    )
    return q_re, q_im


@triton.jit
def resolvent_forward(
    onsite_ptr,  # [B, N, C]
    hopping_ptr,  # [B, N, C] or unused
    energy_re_ptr,
    energy_im_ptr,
    g_re_ptr,  # [B, N, C]
    g_im_ptr,  # [B, N, C]
    n_seq,
    chains,
    length,
    HAS_HOPPING: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    lane = tl.arange(0, SEGMENTS)[:, None]
    chain = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (chain < chains) & (lane >= 0)
    offset = tl.program_id(1).to(tl.int64) * n_seq * chains + chain
    onsite_ptr += offset
    hopping_ptr += offset
    energy_re = tl.load(energy_re_ptr)
    alpha_im = -tl.load(energy_im_ptr)
    zero = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    g_re, g_im = zero, zero
    if SEGMENTS > 1:
        q_re, q_im, r_re, r_im, s_re, s_im = zero, zero, zero, zero, zero + 1.0, zero
        for start in range(0, length, TOKENS):
            token = (lane - 1) * length + start
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
        g_re, g_im = entering_resolvent(lane, q_re, q_im, r_re, r_im, s_re, s_im)
    for start in range(0, length, TOKENS):
        token = lane * length + start
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
    grad_onsite_ptr,  # [B, N, C]
    grad_hopping_ptr,  # [B, N, C] or unused
    grad_energy_ptr,  # [2, B, C]: each chain's share of the gradients of energy_re, energy_im
    n_seq,
    chains,
    length,
    HAS_HOPPING: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    # λ_i = W_i + μ_{i+1}, μ_i = t_i·g_i²·λ_i, W = dL/dRe g − i·dL/dIm g, from the last token to the first
    lane = tl.arange(0, SEGMENTS)[:, None]
    chain = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (chain < chains) & (lane >= 0)
    offset = tl.program_id(1).to(tl.int64) * n_seq * chains + chain
    grad_re_ptr += offset
    grad_im_ptr += offset
    g_re_ptr += offset
    g_im_ptr += offset
    hopping_ptr += offset
    zero = tl.zeros((SEGMENTS, BLOCK), tl.float32)
    mu_re, mu_im = zero, zero
    if SEGMENTS > 1:
        a_re, a_im, b_re, b_im = zero + 1.0, zero, zero, zero
        for start in range(0, length, TOKENS):
            # Lane 0 has nothing before it: tokens past the end, read as zeros, which give the map to 0
            token = n_seq - 1 - ((lane - 1) * length + start)
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
        a_re, a_im, mu_re, mu_im = tl.associative_scan((a_re, a_im, b_re, b_im), 0, compose_complex_affine)
    total_re, total_im = zero, zero
    for start in range(0, length, TOKENS):
        token = n_seq - 1 - (lane * length + start)
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
    row_of_chains = tl.program_id(1).to(tl.int64) * chains
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = row_of_chains + column
    tl.store(grad_energy_ptr + at, tl.sum(total_re, 0), mask=column < chains)
    at += tl.num_programs(1).to(tl.int64) * chains
    tl.store(grad_energy_ptr + at, tl.sum(total_im, 0), mask=column < chains)
