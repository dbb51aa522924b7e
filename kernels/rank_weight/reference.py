"""The weight ω of a token in the AR-SSM fusion, eager."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_SQUARE = 1e-30
LARGEST_TANH = 1 - 1e-6


def rank_weight(
    h: Tensor,
    g_re: Tensor,
    g_im: Tensor,
    radius_weight1: Tensor,
    radius_bias1: Tensor,
    radius_weight2: Tensor,
    radius_bias2: Tensor,
    resolvent_weight: Tensor,
    resolvent_bias: Tensor,
) -> Tensor:
    """σ(Q2·relu(Q1·ϱ + q1) + q2) · σ(Q3 [Re g, Im g] + q3) with ϱ = 2·atanh(min(tanh(|h|/√d), 1 − 10⁻⁶)).

    h [..., d] in the compute dtype; g_re, g_im [...] of the last block and all weights float32, or float64:
    radius_weight1 [k, 1], radius_bias1 [k], radius_weight2 [1, k], radius_bias2 [1], resolvent_weight [1, 2],
    resolvent_bias [1].
    Returns ω [..., 1] in the type of g.
    Source: docs/model.md, AR-SSM fusion.
    """
    norm = h.to(g_re.dtype).square().sum(-1, keepdim=True).clamp_min(SMALLEST_SQUARE).sqrt()
    radius = 2 * torch.atanh(torch.tanh(norm / h.shape[-1] ** 0.5).clamp_max(LARGEST_TANH))
    hidden = F.relu(F.linear(radius, radius_weight1, radius_bias1))
    by_radius = torch.sigmoid(F.linear(hidden, radius_weight2, radius_bias2))
    resolvent = torch.stack([g_re, g_im], dim=-1)
    return by_radius * torch.sigmoid(F.linear(resolvent, resolvent_weight, resolvent_bias))
