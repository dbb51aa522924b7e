"""Version 1 of the embedding: gather-contract, and a backward with one program a core row.

Deterministic: tokens are sorted by core row and each row is summed in order. A frequent row (one core row
can hold half of a text) is one long loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .operator import backward_scratch_bytes, define_htt_embedding

_PART = 0  # a program takes all tokens of a core row

_version = define_htt_embedding("v1", _PART)


def scratch_bytes(tokens: int, core1_size: tuple[int, int, int], core2_size: tuple[int, int, int]) -> int:
    """Bytes the backward op allocates at its largest beside its outputs; the forward op allocates none."""
    return backward_scratch_bytes(tokens, core1_size, core2_size, _PART)


def htt_embedding(
    tokens: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, positions: Tensor, dtype: torch.dtype
) -> Tensor:
    """E[token] + P[position] in the compute dtype; contraction and sum in float32.

    tokens [B, N] int64, core1 [v1, r, d1], core2 [v2, r, d2], phase [r], positions [≥ N, d], all float32.
    Returns [B, N, d]. Raises: UnsupportedVersionError without a GPU or for other weights.
    """
    return _version(tokens, core1, core2, phase, positions, dtype)
