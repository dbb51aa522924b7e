"""LayerNorm and the potential that the BK-Core reads from it, eager."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

V_MAX = 5.0  # the potential is bounded smoothly to ±V_MAX


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm over the last dimension. x [..., d] in the compute dtype; weight, bias [d] master weights."""
    return F.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype))


def norm_potential(
    x: Tensor, weight: Tensor, bias: Tensor, potential_weight: Tensor, potential_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """n = LayerNorm(x), the potential v_max·tanh((w_v·n + b_v)/v_max), and x itself for the residual path.

    x [B, N, d] in the compute dtype; potential_weight [d], potential_bias scalar.
    Returns n [B, N, d] in x's dtype, the potential [B, N] in float32 (float64 for float64 x), and x.
    """
    n = layer_norm(x, weight, bias)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    raw = (n @ potential_weight.to(n.dtype)).to(wide) + potential_bias.to(wide)
    return n, V_MAX * torch.tanh(raw / V_MAX), x
