"""The tied HTT embedding: token rows at the input, logits and loss at the output."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..kernels.htt_cross_entropy.reference import htt_logits
from ..kernels.kernel_set import KernelSet
from .config import Phase8Config

_ROW_NORM = 0.25  # norm of a row of E at the start: initial loss stays near ln V
_STD = 0.02


class HTTEmbedding(nn.Module):
    """Cores and phase of the holographic tensor train, and the learned position table."""

    def __init__(self, config: Phase8Config, kernels: KernelSet) -> None:
        super().__init__()
        (v1, v2), (d1, d2) = config.vocab_dims, config.embedding_dims
        rank = config.htt_rank
        self.vocab_size = config.vocab_size
        self.kernels = kernels
        # A row is a sum of `rank` products of two cores: norm² = d·r·σ⁴
        std = math.sqrt(_ROW_NORM / math.sqrt(config.d_model * rank))
        self.core1 = nn.Parameter(torch.randn(v1, rank, d1) * std)
        self.core2 = nn.Parameter(torch.randn(v2, rank, d2) * std)
        self.phase = nn.Parameter(torch.randn(rank) * 0.01)
        self.positions = nn.Parameter(torch.randn(config.n_seq, config.d_model) * _STD)

    def forward(self, tokens: Tensor, dtype: torch.dtype) -> Tensor:
        """tokens [B, N] int64 → [B, N, d] in `dtype`."""
        out: Tensor = self.kernels.htt_embedding(
            tokens, self.core1, self.core2, self.phase, self.positions, dtype
        )
        return out

    def loss(self, h: Tensor, targets: Tensor) -> Tensor:
        """Mean next-token cross-entropy; h [B, N, d], targets [B, N] int64 → float32 scalar."""
        out: Tensor = self.kernels.htt_cross_entropy(
            h.flatten(0, 1), self.core1, self.core2, self.phase, targets.flatten(), self.vocab_size
        )
        return out

    def logits(self, h: Tensor) -> Tensor:
        """Full logits [T, V] of hidden states h [T, d]: for the last position and for tests."""
        return htt_logits(h, self.core1, self.core2, self.phase, self.vocab_size)
