"""A block's three positive scalars, eager."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

ENERGY_FLOOR = 0.1
"""Im z is larger: what keeps scans in float32 accurate."""

CURVATURE_BOUNDS = (0.01, 10.0)


def block_scalars(epsilon: Tensor, log_curvature: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """η = softplus(ε) + 0.1 of the energy, and of the attention c = clamp(softplus(log_curvature), 0.01, 10)
    and β = softplus(beta). All are 0-dim, of one type.

    Source: docs/model.md, BK-Core and windowed hyperbolic attention.
    """
    curvature = F.softplus(log_curvature).clamp(*CURVATURE_BOUNDS)
    return F.softplus(epsilon) + ENERGY_FLOOR, curvature, F.softplus(beta)
