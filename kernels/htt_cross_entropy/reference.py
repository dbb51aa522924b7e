"""HTT head and its loss, eager: the table expanded, full logits, PyTorch's cross-entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..htt_embedding.reference import expand_table


def htt_logits(h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, vocab_size: int) -> Tensor:
    """logits[t, i1·v2 + i2] = Σ_k cos φ_k · core1[i1, k]ᵀ · Hm · core2[i2, k] for the first V entries.

    h [T, d] in the compute dtype, cores and phase: master weights. Returns [T, V] in h's dtype.
    """
    table = expand_table(core1, core2, phase, vocab_size, h.shape[-1])
    return F.linear(h, table.to(h.dtype))


def htt_cross_entropy(
    h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
) -> Tensor:
    """Mean cross-entropy over tokens, a float32 scalar (float64 for float64 h).

    h [T, d] in the compute dtype, targets [T] int64, cores and phase: master weights.
    """
    logits = htt_logits(h, core1, core2, phase, vocab_size)
    wide = logits if logits.element_size() >= 4 else logits.float()
    return F.cross_entropy(wide, targets)
