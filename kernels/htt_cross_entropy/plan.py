"""Sizes of the head's loss: what is padded, how many tokens a chunk holds, which scratch an op allocates.

Pure functions of shapes and dtypes: the memory predictor asks for `scratch_bytes` without a GPU, the ops
allocate through the same buffers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..versions import UnsupportedVersionError

COLUMN_MULTIPLE = 256
"""Columns of the logits are padded to it: leading dimensions stay 16-byte aligned (cuBLAS's fast path), and K
of the hidden gradient splits into up to 8 aligned parts."""

CHUNK_BYTES = 512 * 2**20
"""Largest chunk of logits. A chunk reads and writes the float32 table gradient once (206 MB at d = 512):
accumulating it takes an H200 168 µs for 2048 tokens and 259 for 4096."""

CHUNK_BYTES_PER_TOKEN = 16 * 2**10
"""A small batch gets a small chunk, which never dominates the memory of its step: at most this much a token
of the batch, but twice that up to half of CHUNK_BYTES, and no less than an eighth of it."""

FACTORED_CHUNK_BYTES = 48 * 2**20
"""Chunk of the factored head, logits and A together: what an H200 keeps in L2 (50 MB)."""

TILE = 128
"""Tokens of a chunk are a power of two, at least one tile of a matrix product."""

FILL = 64
"""Output tiles [128, 256] a product should have, or else its K is split: with as many cuBLAS keeps an H200's
132 multiprocessors busy (871 TFLOP/s at 4096 tokens of 512, 741 at 2048)."""

MAX_SPLITS = 8

FLOAT16_GRADIENT_SCALE = 4096.0
"""Gradients of logits, p − onehot, are stored times this in float16: p = 1/V is a subnormal number there. At
most 4096, so that products with hidden states stay far from the largest float16 (sums are float32)."""

COMPUTE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadShape:
    """Sizes of one call: h [tokens, d_model], core1 [v1, rank, d1], core2 [v2, rank, d2]."""

    tokens: int
    d_model: int
    vocab_size: int
    v1: int
    v2: int
    rank: int
    d1: int
    d2: int

    @property
    def columns(self) -> int:
        """Rows of the expanded table, columns of its logits: v1·v2 padded."""
        return round_up(self.v1 * self.v2, COLUMN_MULTIPLE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Buffer:
    """A scratch tensor an op allocates."""

    size: tuple[int, ...]
    dtype: torch.dtype

    def allocate(self, device: torch.device) -> Tensor:
        return torch.empty(self.size, dtype=self.dtype, device=device)

    @property
    def n_bytes(self) -> int:
        return math.prod(self.size) * self.dtype.itemsize


def head_shape(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> HeadShape:
    """Sizes of a call, checked.

    Raises: UnsupportedVersionError for dtypes only the reference takes; ValueError for shapes that do
    not fit together.
    """
    if h.dtype not in COMPUTE_DTYPES or any(p.dtype != torch.float32 for p in (core1, core2, phase)):
        raise UnsupportedVersionError(
            "htt_cross_entropy: expected h in float32, float16 or bfloat16 and float32 cores, got "
            f"{h.dtype}, {core1.dtype}, {core2.dtype}, {phase.dtype}; version 'reference' takes others"
        )
    (tokens, d_model), (v1, rank, d1), (v2, _, d2) = h.shape, core1.shape, core2.shape
    fits = (
        (core2.shape[1], *phase.shape) == (rank, rank)
        and d1 * d2 >= d_model
        and v1 * v2 >= vocab_size
        and targets.shape == (tokens,)
    )
    if not fits:
        raise ValueError(
            "htt_cross_entropy: expected h [T, d], core1 [v1, r, d1], core2 [v2, r, d2], phase [r], "
            f"targets [T] with d1·d2 ≥ d and v1·v2 ≥ {vocab_size}, got {list(h.shape)}, {list(core1.shape)}, "
            f"{list(core2.shape)}, {list(phase.shape)}, {list(targets.shape)}"
        )
    return HeadShape(
        tokens=tokens, d_model=d_model, vocab_size=vocab_size, v1=v1, v2=v2, rank=rank, d1=d1, d2=d2
    )


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def power_of_two_below(n: int) -> int:
    """The largest power of two ≤ n, n ≥ 1."""
    return 1 << (n.bit_length() - 1)


def chunk_tokens(tokens: int, token_bytes: int, limit_bytes: int) -> int:
    """Tokens a chunk holds: the largest power of two within the limit, at least TILE, at most the batch."""
    return min(tokens, power_of_two_below(max(limit_bytes // token_bytes, TILE)))


def logits_chunk_tokens(shape: HeadShape, dtype: torch.dtype) -> int:
    """Tokens whose logits are in memory at once."""
    by_batch = CHUNK_BYTES_PER_TOKEN * shape.tokens
    limit = min(max(by_batch, min(2 * by_batch, CHUNK_BYTES // 2), CHUNK_BYTES // 8), CHUNK_BYTES)
    return chunk_tokens(shape.tokens, shape.columns * dtype.itemsize, limit)


def chunks(tokens: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def hidden_splits(tokens: int, d_model: int) -> int:
    """Parts of K in which the hidden gradient [tokens, d] is summed: few output tiles do not fill a GPU."""
    tiles = -(-tokens // TILE) * -(-d_model // (2 * TILE))
    return power_of_two_below(min(MAX_SPLITS, max(FILL // tiles, 1)))


def gradient_scale(dtype: torch.dtype) -> float:
    """What stored gradients of logits are multiplied by."""
    return FLOAT16_GRADIENT_SCALE if dtype == torch.float16 else 1.0


def total_bytes(buffers: Mapping[str, Buffer]) -> int:
    return sum(buffer.n_bytes for buffer in buffers.values())


def allocate(buffers: Mapping[str, Buffer], device: torch.device) -> dict[str, Tensor]:
    return {name: buffer.allocate(device) for name, buffer in buffers.items()}
