"""The embedding of every Triton version: gather-contract, and a backward over short parts of sorted tokens.

Tokens are sorted by core row, rows are cut into parts of equal length, the parts' sums are added in a fixed
order: no atomics. One row of 224 frequent tokens can hold half of a text; at 16384 tokens a single program
would walk 8192 of them. With one program a row (a version 1 that is gone) the long float32 sums also missed
the error budget: 2.2 times it at 600 tokens on an H200.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .operator import backward_scratch_bytes, define_htt_embedding

_PART = 16  # tokens a program: about 1024 + 225 programs at 16384 tokens, nine a multiprocessor of an H200

_version = define_htt_embedding("v2", _PART)


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
