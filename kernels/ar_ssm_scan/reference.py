"""AR-SSM scan, eager: s_i = λ ⊙ s_{i−1} + (1 − λ) ⊙ u_i with adaptive-rank gates, by log-depth doubling."""

from __future__ import annotations

import torch
from torch import Tensor


def decays(rank: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """The fixed multi-scale decays λ_k = 1 − 2^(−e_k), e_k evenly spaced from 0.5 to 10. Returns [rank]."""
    exponents = torch.linspace(0.5, 10.0, rank, device=device, dtype=torch.float64)
    return (1.0 - torch.exp2(-exponents)).to(dtype)


def decayed_sum(x: Tensor, decay: Tensor) -> Tensor:
    """y_i = decay ⊙ y_{i−1} + x_i along dimension 1; x [B, N, R], decay [R]."""
    shift, factor = 1, decay
    while shift < x.shape[1]:
        x = torch.cat([x[:, :shift], x[:, shift:] + factor * x[:, :-shift]], dim=1)
        shift, factor = 2 * shift, factor * factor
    return x


def ar_ssm_scan(gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    """(a ⊙ v) ⊙ s with a = sigmoid(gate_logits) and s the decayed average of a ⊙ u.

    gate_logits, u, v [B, N, R] in the compute dtype, decay [R] float32. The scan runs in float32 (float64 for
    float64 inputs). Returns [B, N, R] in u's dtype. Source: docs/model.md, AR-SSM.
    """
    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    decay = decay.to(wide)
    gate = torch.sigmoid(gate_logits.to(wide))
    state = decayed_sum((1.0 - decay) * gate * u.to(wide), decay)
    return (gate * v.to(wide) * state).to(u.dtype)


def ar_ssm_scan_loop(gate_logits: Tensor, u: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    """The definition, token by token: the oracle of the tests (float32 or float64 inputs)."""
    gate = torch.sigmoid(gate_logits)
    state = torch.zeros_like(u[:, 0])
    outputs = []
    for i in range(u.shape[1]):
        state = decay * state + (1.0 - decay) * gate[:, i] * u[:, i]
        outputs.append(gate[:, i] * v[:, i] * state)
    return torch.stack(outputs, dim=1)
