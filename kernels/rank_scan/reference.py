"""Rank scan, eager: p_t = M·p_{t−1} + w_t with one dense R×R matrix, by log-depth doubling."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_scan(w: Tensor, matrix: Tensor) -> Tensor:
    """p_t = M p_{t−1} + w_t along dimension 1.

    w [B, N, R], matrix [R, R] with ‖M‖₂ ≤ 1, both float32 (or float64). Returns p [B, N, R].
    Source: docs/model.md, AR-SSM fusion.
    """
    shift, power = 1, matrix
    while shift < w.shape[1]:
        w = torch.cat([w[:, :shift], w[:, shift:] + w[:, :-shift] @ power.T], dim=1)
        shift, power = 2 * shift, power @ power
    return w


def rank_scan_loop(w: Tensor, matrix: Tensor) -> Tensor:
    """The definition, token by token: the oracle of the tests."""
    p = torch.zeros_like(w[:, 0])
    outputs = []
    for t in range(w.shape[1]):
        p = p @ matrix.T + w[:, t]
        outputs.append(p)
    return torch.stack(outputs, dim=1)
