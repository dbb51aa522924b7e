"""Spectral norm, eager."""

from __future__ import annotations

import torch
from torch import Tensor

SQUARINGS = 10


def spectral_norm(matrix: Tensor) -> Tensor:
    """‖matrix‖₂ of a small square matrix, differentiable, with no factorisation or synchronisation.

    (MᵀM)^(2^SQUARINGS), rescaled at each squaring, projects on the leading right singular vector; the norm is
    then uᵀMv with u, v held fixed, whose gradient u·vᵀ is the norm's. matrix [R, R] float32 or float64.
    Source: docs/model.md, AR-SSM fusion.
    """
    with torch.no_grad():
        power = matrix.T @ matrix
        for _ in range(SQUARINGS):
            power = power @ power
            power = power / power.norm().clamp_min(torch.finfo(matrix.dtype).tiny)
        # The column with the largest share of the leading vector; indexing with a tensor would synchronise
        v = power.index_select(1, power.norm(dim=0).argmax().reshape(1))[:, 0]
        v = v / v.norm().clamp_min(torch.finfo(matrix.dtype).tiny)
        u = matrix @ v
        u = u / u.norm().clamp_min(torch.finfo(matrix.dtype).tiny)
    norm: Tensor = u @ matrix @ v
    return norm
