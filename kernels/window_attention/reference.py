"""Windowed hyperbolic attention, eager: each block of `window` queries against the two key blocks it sees."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_RADIUS = 20.0  # clamp of √c·|q|: sinh stays finite in float32
GRADIENT_FLOOR = 1e-6  # added to δ: the distance's derivative stays finite where q = k
_SERIES_BELOW = 1e-2  # argument under which sinh(2s)/ρ is taken from its series


def radius(x: Tensor) -> Tensor:
    """|x| over the last dimension in float32 (float64 stays); its gradient at 0 is 0, not NaN."""
    x = x if x.dtype == torch.float64 else x.float()
    return x.square().sum(-1).clamp_min(1e-30).sqrt()


def radial_factor(rho: Tensor, sqrt_c: Tensor) -> tuple[Tensor, Tensor]:
    """(s, F) with s = min(√c·ρ, 20) and F = sinh(2s)/ρ, near 0 its series 2√c(1 + x²/6 + x⁴/120), x = 2s."""
    s = (sqrt_c * rho).clamp_max(MAX_RADIUS)
    near = s < _SERIES_BELOW
    x2 = (2 * s).square()
    series = 2 * sqrt_c * (1 + x2 / 6 + x2.square() / 120)
    safe = torch.where(near, torch.ones_like(rho), rho)
    return s, torch.where(near, series, torch.sinh(2 * torch.where(near, torch.ones_like(s), s)) / safe)


def distance(q: Tensor, k: Tensor, curvature: Tensor) -> Tensor:
    """Geodesic distance between exp_0(q_i) and exp_0(k_j) in the ball of curvature −c.

    q [..., I, D], k [..., J, D]: tangent vectors at the origin. Returns [..., I, J], float32 (float64 stays).
    Source: docs/model.md, Windowed hyperbolic attention: cosh(√c·dist) − 1 = δ, in the form that keeps its
    digits.
    """
    sqrt_c = curvature.sqrt()
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    rho, sigma = radius(q)[..., :, None], radius(k)[..., None, :]
    s, factor_q = radial_factor(rho, sqrt_c)
    t, factor_k = radial_factor(sigma, sqrt_c)
    dot = q.to(wide) @ k.to(wide).transpose(-1, -2)
    angle = (rho * sigma - dot).clamp_min(0.0)  # ≥ 0 by Cauchy and Schwarz, up to rounding
    delta = 2 * torch.sinh(s - t).square() + factor_q * factor_k * angle + GRADIENT_FLOOR
    # √δ·√(δ+2), not √(δ(δ+2)): δ² overflows float32 long before δ does
    return torch.log1p(delta + delta.sqrt() * (delta + 2).sqrt()) / sqrt_c


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, curvature: Tensor, beta: Tensor, sink: Tensor, window: int
) -> Tensor:
    """Softmax attention with scores −β·√D·dist(q_i, k_j) for 0 ≤ i − j < window and one valueless sink logit.

    q, k, v [B, N, H, D] in the compute dtype; curvature, beta, sink: scalars, float32 or float64.
    Returns [B, N, H, D] in q's dtype. Scores and softmax are float32 (float64 for float64 inputs).
    """
    batch, n, heads, dim = q.shape
    blocks = -(-n // window)

    def split(x: Tensor) -> Tensor:  # [B, H, blocks, window, D]
        x = F.pad(x, (0, 0, 0, 0, 0, blocks * window - n))
        return x.view(batch, blocks, window, heads, dim).permute(0, 3, 1, 2, 4)

    def with_previous(x: Tensor) -> Tensor:  # [B, H, blocks, 2·window, D]
        return torch.cat([F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1], x], dim=3)

    queries, keys, values = split(q), with_previous(split(k)), with_previous(split(v))
    scores = -beta * dim**0.5 * distance(queries, keys, curvature)
    i = torch.arange(window, device=q.device)[:, None] + window
    j = torch.arange(2 * window, device=q.device)[None, :]
    block = torch.arange(blocks, device=q.device)[:, None, None]
    visible = (j <= i) & (i - j < window) & ((block > 0) | (j >= window))
    scores = scores.masked_fill(~visible, float("-inf"))
    logits = torch.cat([scores, sink.to(scores.dtype).expand(*scores.shape[:-1], 1)], dim=-1)
    weights = torch.softmax(logits, dim=-1)[..., :-1]
    out = weights.to(values.dtype) @ values
    return out.permute(0, 2, 3, 1, 4).reshape(batch, blocks * window, heads, dim)[:, :n]
