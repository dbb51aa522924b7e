# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"
"""Triton kernels of the first launch over a row that is cut into chunks: every segment becomes one map."""

from __future__ import annotations

import triton
import triton.language as tl

from .resolvent import segment_adjoint, segment_response
from .responses import ADJOINT, RESPONSE, store_adjoint, store_response


@triton.jit
def resolvent_maps(
    onsite_ptr,  # [B, N, C]
    hopping_ptr,  # [B, N, C] or unused
    energy_re_ptr,
    energy_im_ptr,
    maps_ptr,  # [B, segments, 6, C]: responses of a chunk's segments up to each
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
    row = tl.program_id(1).to(tl.int64)
    segment = tl.program_id(2) * SEGMENTS + lane
    offset = row * n_seq * chains + chain
    q_re, q_im, r_re, r_im, s_re, s_im = segment_response(
        onsite_ptr + offset, hopping_ptr + offset, segment * length, length, n_seq, chains,
        tl.load(energy_re_ptr), -tl.load(energy_im_ptr), mask, tl.zeros((SEGMENTS, BLOCK), tl.float32),
        HAS_HOPPING, TOKENS,
    )  # fmt: skip
    maps_ptr += row * tl.num_programs(2) * SEGMENTS * RESPONSE * chains + chain
    store_response(maps_ptr, segment, chains, mask, q_re, q_im, r_re, r_im, s_re, s_im)


@triton.jit
def adjoint_maps(
    grad_re_ptr,  # [B, N, C]
    grad_im_ptr,  # [B, N, C]
    g_re_ptr,  # [B, N, C]
    g_im_ptr,  # [B, N, C]
    hopping_ptr,  # [B, N, C] or unused
    maps_ptr,  # [B, segments, 4, C]: of a chunk's segments up to each, counted from the end
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
    row = tl.program_id(1).to(tl.int64)
    segment = tl.program_id(2) * SEGMENTS + lane
    offset = row * n_seq * chains + chain
    a_re, a_im, b_re, b_im = segment_adjoint(
        grad_re_ptr + offset, grad_im_ptr + offset, g_re_ptr + offset, g_im_ptr + offset,
        hopping_ptr + offset, n_seq - 1 - segment * length, length, n_seq, chains, mask,
        tl.zeros((SEGMENTS, BLOCK), tl.float32), HAS_HOPPING, TOKENS,
    )  # fmt: skip
    maps_ptr += row * tl.num_programs(2) * SEGMENTS * ADJOINT * chains + chain
    store_adjoint(maps_ptr, segment, chains, mask, a_re, a_im, b_re, b_im)
