# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"
"""Triton kernels of the first launch over a row that is cut into chunks: every segment becomes one map."""

from __future__ import annotations

import triton
import triton.language as tl

from ..bk_scan.responses import ADJOINT, RESPONSE, store_adjoint, store_response
from .gated import segment_adjoint, segment_response


@triton.jit
def gate_maps(
    abc_ptr,  # [B, N, 3d]
    maps_ptr,  # [B, segments, 6, d]: responses of a chunk's segments up to each
    n_seq,
    d_model,
    length,
    stride_abc_row,
    stride_abc,
    ENERGY_RE: tl.constexpr,
    ENERGY_IM: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    lane = tl.arange(0, SEGMENTS)[:, None]
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (channel < d_model) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    segment = tl.program_id(2) * SEGMENTS + lane
    q_re, q_im, r_re, r_im, s_re, s_im = segment_response(
        abc_ptr + row * stride_abc_row + channel, segment * length, length, n_seq, d_model, stride_abc, mask,
        tl.zeros((SEGMENTS, BLOCK), tl.float32), ENERGY_RE, ENERGY_IM, TOKENS,
    )  # fmt: skip
    maps_ptr += row * tl.num_programs(2) * SEGMENTS * RESPONSE * d_model + channel
    store_response(maps_ptr, segment, d_model, mask, q_re, q_im, r_re, r_im, s_re, s_im)


@triton.jit
def gate_adjoint_maps(
    grad_ptr,  # [B, N, d], contiguous
    h_ptr,  # [B, N, d]
    abc_ptr,  # [B, N, 3d]
    weight_ptr,  # [2]
    bias_ptr,
    entering_ptr,  # [B, groups, 2, d]
    maps_ptr,  # [B, segments, 4, d]: of a chunk's segments up to each, counted from the end
    n_seq,
    d_model,
    length,
    stride_h_row,
    stride_h,
    stride_abc_row,
    stride_abc,
    ENERGY_RE: tl.constexpr,
    ENERGY_IM: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    lane = tl.arange(0, SEGMENTS)[:, None]
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (channel < d_model) & (lane >= 0)
    row = tl.program_id(1).to(tl.int64)
    from_end = tl.program_id(2) * SEGMENTS + lane
    segment = tl.num_programs(2) * SEGMENTS - 1 - from_end
    groups = tl.cdiv(n_seq, TOKENS)
    a_re, a_im, b_re, b_im = segment_adjoint(
        grad_ptr + row * n_seq * d_model + channel, h_ptr + row * stride_h_row + channel,
        abc_ptr + row * stride_abc_row + channel, entering_ptr + row * groups * 2 * d_model + channel,
        tl.load(weight_ptr), tl.load(weight_ptr + 1), tl.load(bias_ptr), segment * length, length, n_seq,
        d_model, stride_h, stride_abc, mask, tl.zeros((SEGMENTS, BLOCK), tl.float32),
        ENERGY_RE, ENERGY_IM, TOKENS,
    )  # fmt: skip
    maps_ptr += row * tl.num_programs(2) * SEGMENTS * ADJOINT * d_model + channel
    store_adjoint(maps_ptr, from_end, d_model, mask, a_re, a_im, b_re, b_im)
