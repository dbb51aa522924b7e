"""BK hyperbolic integration, eager: channel-wise resolvent, then h ⊙ (1 + sigmoid(W [Re G, Im G] + b))."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..bk_scan.reference import bk_scan

ENERGY = (0.9, 0.1)  # z0 of the channel-wise chain, fixed by docs/model.md
Scan = Callable[[Tensor, Tensor | None, Tensor, Tensor], tuple[Tensor, Tensor]]


def bk_gate(h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor, scan: Scan = bk_scan) -> Tensor:
    """h ⊙ (1 + sigmoid(w_0·Re G + w_1·Im G + b)), G the resolvent of one chain a channel.

    h [B, N, d] and abc [B, N, 3d] (on-site energies, then the logits of b and of c) in the compute dtype;
    weight [2], bias scalar: master weights. G_i = 1/(a_i − z0 − b_{i−1} c_i G_{i−1}) in float32 (float64
    stays). Returns [B, N, d] in h's dtype. `scan` is the BK scan to use.
    Source: docs/model.md, BK hyperbolic integration.
    """
    wide = torch.float64 if h.dtype == torch.float64 else torch.float32
    onsite, b_logits, c_logits = abc.to(wide).chunk(3, dim=-1)
    b, c = torch.sigmoid(b_logits), torch.sigmoid(c_logits)
    hopping = torch.cat([torch.zeros_like(b[:, :1]), b[:, :-1]], dim=1) * c
    # Filled on the device: copying host numbers there cannot be captured in a CUDA graph
    energy_re, energy_im = (torch.full((), part, dtype=wide, device=h.device) for part in ENERGY)
    g_re, g_im = scan(onsite.contiguous(), hopping, energy_re, energy_im)
    weight, bias = weight.to(wide), bias.to(wide)
    gate = 1 + torch.sigmoid(weight[0] * g_re + weight[1] * g_im + bias)
    return h * gate.to(h.dtype)
