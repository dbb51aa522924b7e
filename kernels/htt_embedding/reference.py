"""HTT embedding, eager: E[t] = first d entries of vec(Σ_k cos φ_k · core1[i1, k] ⊗ core2[i2, k])."""

from __future__ import annotations

import torch
from torch import Tensor


def expand_table(core1: Tensor, core2: Tensor, phase: Tensor, vocab_size: int, d_model: int) -> Tensor:
    """All rows E [V, d] of the embedding, in the cores' dtype.

    core1 [v1, r, d1], core2 [v2, r, d2], phase [r].
    """
    v1, v2, d1, d2 = core1.shape[0], core2.shape[0], core1.shape[2], core2.shape[2]
    scaled = core1 * torch.cos(phase)[:, None]
    table = torch.einsum("xka,ykb->xyab", scaled, core2).reshape(v1 * v2, d1 * d2)
    return table[:vocab_size, :d_model]


def htt_embedding(
    tokens: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, positions: Tensor, dtype: torch.dtype
) -> Tensor:
    """E[token] + P[position] in the compute dtype.

    tokens [B, N] int64, core1 [v1, r, d1], core2 [v2, r, d2], phase [r], positions [≥ N, d]: master weights.
    The contraction and the sum run in the weights' dtype. Returns [B, N, d].
    Source: docs/model.md, Embedding.
    """
    batch, n = tokens.shape
    d_model = positions.shape[1]
    flat = tokens.reshape(-1)
    first = (core1 * torch.cos(phase)[:, None])[flat // core2.shape[0]]
    second = core2[flat % core2.shape[0]]
    rows = torch.bmm(first.transpose(1, 2), second).reshape(batch, n, -1)[..., :d_model]
    return (rows + positions[:n]).to(dtype)
