# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"
"""Responses of stretches of a chain, and of its adjoint: extended, composed, kept between two launches.

A stretch maps the resolvent g that enters it to q + s·g/(1 − r·g). q and r are the resolvents at its two
ends and s couples them, so all three are bounded by 1/Im z and powers of it: unlike a product of 2×2 Möbius
matrices nothing overflows, nothing needs renormalising, and it takes three numbers, not four.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..segments import compose_complex_affine, load_tokens, multiply

RESPONSE: tl.constexpr = tl.constexpr(6)
"""Numbers of a response: q, r, s, real part first."""
ADJOINT: tl.constexpr = tl.constexpr(4)
"""Numbers of a map of the adjoint, μ ↦ a·μ + b."""


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
def respond(q_re, q_im, r_re, r_im, s_re, s_im, g_re, g_im):
    """What leaves a stretch that g enters: q + s·g/(1 − r·g)."""
    rg_re, rg_im = multiply(r_re, r_im, g_re, g_im)
    d_re, d_im = reciprocal(1.0 - rg_re, -rg_im)
    d_re, d_im = multiply(d_re, d_im, g_re, g_im)
    d_re, d_im = multiply(s_re, s_im, d_re, d_im)
    return q_re + d_re, q_im + d_im


@triton.jit
def resolvent_entering_chunk(
    maps_ptr, chunk, lane, chains, mask, SEGMENTS: tl.constexpr, BLOCK: tl.constexpr, AT_ONCE: tl.constexpr
):
    """g [SEGMENTS, BLOCK] entering each lane's segment of a chunk.

    maps_ptr: of this row and these chains, the responses [segments, 6, chains]; mask [1, BLOCK]. Those of the
    chunks before are loaded AT_ONCE by AT_ONCE.
    """
    stride = RESPONSE * chains
    ends_ptr = maps_ptr + (SEGMENTS - 1) * stride
    step = SEGMENTS * stride
    g_re = tl.zeros((1, BLOCK), tl.float32)
    g_im = tl.zeros((1, BLOCK), tl.float32)
    for first in range(0, chunk, AT_ONCE):
        q_re = load_tokens(ends_ptr, first, 0, chunk, step, mask, AT_ONCE, 1)
        q_im = load_tokens(ends_ptr + chains, first, 0, chunk, step, mask, AT_ONCE, 1)
        r_re = load_tokens(ends_ptr + 2 * chains, first, 0, chunk, step, mask, AT_ONCE, 1)
        r_im = load_tokens(ends_ptr + 3 * chains, first, 0, chunk, step, mask, AT_ONCE, 1)
        s_re = load_tokens(ends_ptr + 4 * chains, first, 0, chunk, step, mask, AT_ONCE, 1)
        s_im = load_tokens(ends_ptr + 5 * chains, first, 0, chunk, step, mask, AT_ONCE, 1)
        for k in tl.static_range(AT_ONCE):
            out_re, out_im = respond(q_re[k], q_im[k], r_re[k], r_im[k], s_re[k], s_im[k], g_re, g_im)
            g_re = tl.where(first + k < chunk, out_re, g_re)
            g_im = tl.where(first + k < chunk, out_im, g_im)
    at = maps_ptr + (chunk * SEGMENTS + lane - 1) * stride
    inside = mask & (lane > 0)
    return respond(
        tl.load(at, mask=inside, other=0.0),
        tl.load(at + chains, mask=inside, other=0.0),
        tl.load(at + 2 * chains, mask=inside, other=0.0),
        tl.load(at + 3 * chains, mask=inside, other=0.0),
        tl.load(at + 4 * chains, mask=inside, other=1.0),
        tl.load(at + 5 * chains, mask=inside, other=0.0),
        g_re,
        g_im,
    )


@triton.jit
def store_response(maps_ptr, segment, chains, mask, q_re, q_im, r_re, r_im, s_re, s_im):
    """The responses [SEGMENTS, BLOCK] of segments, from each lane's own: composed with those before it."""
    q_re, q_im, r_re, r_im, s_re, s_im = tl.associative_scan(
        (q_re, q_im, r_re, r_im, s_re, s_im), 0, compose_responses
    )
    at = maps_ptr + segment * RESPONSE * chains
    tl.store(at, q_re, mask=mask)
    tl.store(at + chains, q_im, mask=mask)
    tl.store(at + 2 * chains, r_re, mask=mask)
    tl.store(at + 3 * chains, r_im, mask=mask)
    tl.store(at + 4 * chains, s_re, mask=mask)
    tl.store(at + 5 * chains, s_im, mask=mask)


@triton.jit
def adjoint_entering_chunk(
    maps_ptr, chunk, lane, chains, mask, SEGMENTS: tl.constexpr, BLOCK: tl.constexpr, AT_ONCE: tl.constexpr
):
    """μ [SEGMENTS, BLOCK] entering each lane's segment of a chunk, both counted from the end; arguments as
    those of `resolvent_entering_chunk`, maps [segments, 4, chains]."""
    stride = ADJOINT * chains
    ends_ptr = maps_ptr + (SEGMENTS - 1) * stride
    step = SEGMENTS * stride
    mu_re = tl.zeros((1, BLOCK), tl.float32)
    mu_im = tl.zeros((1, BLOCK), tl.float32)
    for first in range(0, chunk, AT_ONCE):
        a_re = load_tokens(ends_ptr, first, 0, chunk, step, mask, AT_ONCE, 1)
        a_im = load_tokens(ends_ptr + chains, first, 0, chunk, step, mask, AT_ONCE, 1)
        b_re = load_tokens(ends_ptr + 2 * chains, first, 0, chunk, step, mask, AT_ONCE, 1)
        b_im = load_tokens(ends_ptr + 3 * chains, first, 0, chunk, step, mask, AT_ONCE, 1)
        for k in tl.static_range(AT_ONCE):
            out_re, out_im = multiply(a_re[k], a_im[k], mu_re, mu_im)
            mu_re = tl.where(first + k < chunk, out_re + b_re[k], mu_re)
            mu_im = tl.where(first + k < chunk, out_im + b_im[k], mu_im)
    at = maps_ptr + (chunk * SEGMENTS + lane - 1) * stride
    inside = mask & (lane > 0)
    a_re = tl.load(at, mask=inside, other=1.0)
    a_im = tl.load(at + chains, mask=inside, other=0.0)
    mu_re, mu_im = multiply(a_re, a_im, mu_re, mu_im)
    mu_re += tl.load(at + 2 * chains, mask=inside, other=0.0)
    return mu_re, mu_im + tl.load(at + 3 * chains, mask=inside, other=0.0)


@triton.jit
def store_adjoint(maps_ptr, segment, chains, mask, a_re, a_im, b_re, b_im):
    """The maps [SEGMENTS, BLOCK] of segments, from each lane's own: composed with those before it."""
    a_re, a_im, b_re, b_im = tl.associative_scan((a_re, a_im, b_re, b_im), 0, compose_complex_affine)
    at = maps_ptr + segment * ADJOINT * chains
    tl.store(at, a_re, mask=mask)
    tl.store(at + chains, a_im, mask=mask)
    tl.store(at + 2 * chains, b_re, mask=mask)
    tl.store(at + 3 * chains, b_im, mask=mask)
