# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"
# ruff: noqa: RUF005 (Triton builds tuples by concatenation only)
"""Segmented scans: what the scan kernels share.

A tile of a scan kernel is [segments, chains]: every lane walks one segment of one chain, token by token, in
registers. First each lane reduces the segment *before* its own to one map, a scan over the segments composes
these maps, and the lane then knows the state that enters its own segment, which it replays. One segment makes
it the plain sequential scan and skips the first pass. A reversed scan counts tokens from the end.

A row that is too long for one program a tile of chains is cut into chunks, a program each: one launch reduces
every segment to its map and composes those of a chunk, the next walks over the chunks before its own, takes
the map of the segments before each lane, and replays. Tokens are read twice either way. Into how many depends
on the length of a row alone: scratch is then straight in the batch, as whoever predicts memory needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from .versions import UnsupportedVersionError

WARP = 32
_MAX_WARPS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmentation:
    """How chains are cut. segments: lanes a chain of one program, a power of two; length: tokens a segment, a
    multiple of the tokens loaded at once; block: chains a program, a power of two; chunks: programs a row."""

    segments: int
    length: int
    block: int
    num_warps: int
    chunks: int = 1


def segmentation(
    n_seq: int, *, segments: int, block: int, tokens: int, chains_per_thread: int = 1
) -> Segmentation:
    """Cut n_seq tokens into at most `segments` segments of whole groups of `tokens` tokens, for one program.

    segments and block are powers of two; chains_per_thread: elements of a row that one thread holds.
    """
    groups = -(-n_seq // tokens)
    segments = min(segments, triton.next_power_of_2(groups))
    return Segmentation(
        segments=segments,
        length=tokens * -(-groups // segments),
        block=block,
        num_warps=_warps(segments * block, chains_per_thread),
    )


def chunked(
    n_seq: int,
    *,
    segments: int,
    length: int,
    most: int,
    block: int,
    tokens: int,
    chains_per_thread: int = 1,
) -> Segmentation | None:
    """Cut n_seq tokens into chunks of `segments` segments; None for a row that is not long enough for two.

    length: tokens a segment, a multiple of `tokens`, and more only where chunks would be more than `most`.
    """
    if n_seq < 2 * segments * length:
        return None
    chunks = min(-(-n_seq // (segments * length)), most)
    length = tokens * -(-n_seq // (chunks * segments * tokens))
    return Segmentation(
        segments=segments,
        length=length,
        block=block,
        num_warps=_warps(segments * block, chains_per_thread),
        chunks=-(-n_seq // (segments * length)),
    )


def maps_shape(cut: Segmentation | None, batch: int, numbers: int, chains: int) -> tuple[int, int, int, int]:
    """Scratch between two launches: of every segment the map of those of its chunk up to it; none where one
    launch is enough. cut: of `chunked`; numbers: of a map."""
    return batch, 0 if cut is None else cut.chunks * cut.segments, numbers, chains


def _warps(lanes: int, chains_per_thread: int) -> int:
    return min(max(lanes // (WARP * chains_per_thread), 1), _MAX_WARPS)


def require_float32(operation: str, version: str, **tensors: Tensor | None) -> None:
    """Refuse tensors that are not float32.

    Raises: UnsupportedVersionError naming the tensor, its dtype and the version that takes it.
    """
    for name, tensor in tensors.items():
        if tensor is not None and str(tensor.dtype) != "torch.float32":
            raise UnsupportedVersionError(
                f"{operation} {version}: expected {name} in float32, got {tensor.dtype}; "
                "version 'reference' also takes float64"
            )


def with_unit_stride(x: Tensor) -> Tensor:
    """x itself where its last dimension is contiguous (a view of a fused projection is), else a copy."""
    return x if x.shape[-1] == 1 or x.stride(-1) == 1 else x.contiguous()


@triton.jit
def load_tokens(pointer, first, lowest, n_seq, stride_token, mask, TOKENS: tl.constexpr, STEP: tl.constexpr):
    """Tuple of TOKENS float32 tiles: tokens first, first + STEP, …; zero outside lowest ≤ token < n_seq.

    All loads are issued before the first value is used, so that their latencies overlap.
    """
    tiles = ()
    for k in tl.static_range(TOKENS):
        token = first + STEP * k
        inside = mask & (token >= lowest) & (token < n_seq)
        tiles = tiles + (tl.load(pointer + token * stride_token, mask=inside, other=0.0).to(tl.float32),)
    return tiles


@triton.jit
def compose_affine(a1, b1, a2, b2):
    """x ↦ a·x + b, the second map after the first."""
    return a2 * a1, a2 * b1 + b2


@triton.jit
def store_affine(maps_ptr, segment, chains, mask, factor, b, NUMBERS: tl.constexpr):
    """Write the maps x ↦ factor·x + b of the segments of a chunk, each after those before it.

    maps_ptr: as `entering_affine` reads them, of this row and these chains; b becomes number 1.
    """
    factor, b = tl.associative_scan((factor, b), 0, compose_affine)
    at = maps_ptr + segment * NUMBERS * chains
    tl.store(at, factor, mask=mask)
    tl.store(at + chains, b, mask=mask)


@triton.jit
def multiply(a_re, a_im, b_re, b_im):
    """Complex product."""
    return a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re


@triton.jit
def compose_complex_affine(a1_re, a1_im, b1_re, b1_im, a2_re, a2_im, b2_re, b2_im):
    """x ↦ a·x + b over the complex numbers, the second map after the first."""
    a_re, a_im = multiply(a2_re, a2_im, a1_re, a1_im)
    b_re, b_im = multiply(a2_re, a2_im, b1_re, b1_im)
    return a_re, a_im, b_re + b2_re, b_im + b2_im


@triton.jit
def entering_affine(
    maps_ptr, chunk, lane, chains, mask,
    NUMBER: tl.constexpr, NUMBERS: tl.constexpr, SEGMENTS: tl.constexpr, BLOCK: tl.constexpr,
    AT_ONCE: tl.constexpr,
):  # fmt: skip
    """The state [SEGMENTS, BLOCK] that enters each lane's segment of a chunk, x ↦ a·x + b from 0 on.

    maps_ptr: of this row and these chains, [segments, NUMBERS, chains], the factor first, b as NUMBER; mask
    [1, BLOCK]. Maps of the chunks before are loaded AT_ONCE by AT_ONCE.
    """
    stride = NUMBERS * chains
    ends_ptr = maps_ptr + (SEGMENTS - 1) * stride
    state = tl.zeros((1, BLOCK), tl.float32)
    for first in range(0, chunk, AT_ONCE):
        a = load_tokens(ends_ptr, first, 0, chunk, SEGMENTS * stride, mask, AT_ONCE, 1)
        b = load_tokens(ends_ptr + NUMBER * chains, first, 0, chunk, SEGMENTS * stride, mask, AT_ONCE, 1)
        for k in tl.static_range(AT_ONCE):
            state = tl.where(first + k < chunk, a[k] * state + b[k], state)
    at = maps_ptr + (chunk * SEGMENTS + lane - 1) * stride
    inside = mask & (lane > 0)
    return tl.load(at, mask=inside, other=1.0) * state + tl.load(at + NUMBER * chains, mask=inside, other=0.0)
