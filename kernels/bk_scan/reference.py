"""BK scan, eager: the causal resolvent (Weyl m-function) of a tridiagonal chain, as a continued fraction.

    g_0 = 1 / (v_0 − z),    g_i = 1 / (v_i − z − t_i·g_{i−1})

g_i is the last diagonal entry of (H_{0..i} − z)⁻¹, where H has on-site energies v and products of hoppings t.
Forward: Möbius maps multiplied within chunks, carried across them, replayed. Backward: the exact adjoint, a
reversed first-order scan that needs only g.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK = 16
_RENORMALISE_EVERY = 8  # Möbius products overflow float32 within 1024 steps unless rescaled


def bk_scan(
    onsite: Tensor, hopping: Tensor | None, energy_re: Tensor, energy_im: Tensor
) -> tuple[Tensor, Tensor]:
    """Causal resolvent of a chain at energy z = energy_re + i·energy_im, energy_im > 0.

    onsite [B, N] or [B, N, C]: real on-site energies v, float32 or float64. hopping: same shape, the products
    t_i = b_{i−1}·c_i (t_0 is not used), or None for unit hopping. energy_re, energy_im: scalars.
    Returns (Re g, Im g), each of onsite's shape and dtype. Differentiable in every argument.
    Source: docs/model.md, BK-Core; the adjoint from dg_i = −g_i²·(dv_i − dz − t_i·dg_{i−1} − g_{i−1}·dt_i).
    """
    g_re, g_im = _BkScan.apply(onsite, hopping, energy_re, energy_im)  # type: ignore[no-untyped-call]
    return g_re, g_im


def bk_scan_loop(
    onsite: Tensor, hopping: Tensor | None, energy_re: Tensor, energy_im: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition, token by token, differentiated by autograd: the oracle of the tests."""
    z = torch.complex(energy_re, energy_im)
    g = torch.zeros_like(onsite[:, 0]) * z
    outputs = []
    for i in range(onsite.shape[1]):
        t = 1.0 if hopping is None else hopping[:, i]
        g = 1.0 / (onsite[:, i] - z - t * g)
        outputs.append(g)
    stacked = torch.stack(outputs, dim=1)
    return stacked.real, stacked.imag


def first_order_scan(a: Tensor, b: Tensor) -> Tensor:
    """y_i = a_i·y_{i−1} + b_i along dimension 1 by log-depth doubling; a, b [B, N, …], real or complex."""
    shift = 1
    while shift < b.shape[1]:
        tail = b[:, shift:] + a[:, shift:] * b[:, :-shift]
        b = torch.cat([b[:, :shift], tail], dim=1)
        a = torch.cat([a[:, :shift], a[:, shift:] * a[:, :-shift]], dim=1)
        shift *= 2
    return b


def _scan_chunks(alpha: Tensor, hopping: Tensor | None) -> Tensor:
    """g [B, N, C] complex from alpha = v − z [B, N, C] complex and hopping [B, N, C] real or None."""
    batch, n, channels = alpha.shape
    pad = -n % _CHUNK
    if pad:
        alpha = torch.cat([alpha, torch.ones_like(alpha[:, :1]).expand(-1, pad, -1)], dim=1)
        if hopping is not None:
            hopping = torch.cat([hopping, torch.zeros_like(hopping[:, :1]).expand(-1, pad, -1)], dim=1)
    alpha = alpha.reshape(batch, -1, _CHUNK, channels)
    hopping = None if hopping is None else hopping.reshape(batch, -1, _CHUNK, channels)

    def t(step: int) -> Tensor | float:
        return 1.0 if hopping is None else hopping[:, :, step]

    # Each chunk's Möbius map g ↦ (p·g + q) / (r·g + s), all chunks side by side.
    p, q = torch.ones_like(alpha[:, :, 0]), torch.zeros_like(alpha[:, :, 0])
    r, s = q, p
    for step in range(_CHUNK):
        p, q, r, s = r, s, alpha[:, :, step] * r - t(step) * p, alpha[:, :, step] * s - t(step) * q
        if step % _RENORMALISE_EVERY == _RENORMALISE_EVERY - 1:
            scale = 1.0 / torch.maximum(torch.maximum(p.abs(), q.abs()), torch.maximum(r.abs(), s.abs()))
            p, q, r, s = p * scale, q * scale, r * scale, s * scale
    carry = torch.zeros_like(p[:, 0])
    entries = [carry]
    for chunk in range(alpha.shape[1] - 1):
        carry = (p[:, chunk] * carry + q[:, chunk]) / (r[:, chunk] * carry + s[:, chunk])
        entries.append(carry)
    g = torch.stack(entries, dim=1)
    outputs = []
    for step in range(_CHUNK):
        g = 1.0 / (alpha[:, :, step] - t(step) * g)
        outputs.append(g)
    return torch.stack(outputs, dim=2).reshape(batch, -1, channels)[:, :n]


class _BkScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, onsite: Tensor, hopping: Tensor | None, energy_re: Tensor, energy_im: Tensor
    ) -> tuple[Tensor, Tensor]:
        shape = (*onsite.shape[:2], -1)
        alpha = onsite.reshape(shape) - torch.complex(energy_re, energy_im)
        g = _scan_chunks(alpha, None if hopping is None else hopping.reshape(shape))
        ctx.save_for_backward(g, hopping)
        return g.real.reshape(onsite.shape).contiguous(), g.imag.reshape(onsite.shape).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        g, hopping = ctx.saved_tensors
        shape = grads[0].shape
        # L = Re Σ W_i g_i with W = ∂L/∂Re g − i·∂L/∂Im g
        w = torch.complex(grads[0].reshape(g.shape), -grads[1].reshape(g.shape))
        g_squared = g * g
        coefficient = g_squared if hopping is None else g_squared * hopping.reshape(g.shape)
        # λ_i = W_i + t_{i+1} g_{i+1}² λ_{i+1}: the scan runs from the end, its coefficient one step ahead
        ahead = torch.cat([coefficient[:, 1:], torch.zeros_like(coefficient[:, :1])], dim=1)
        lam = first_order_scan(ahead.flip(1), w.flip(1)).flip(1)
        product = lam * g_squared
        grad_hopping = None
        if hopping is not None:
            previous = torch.cat([torch.zeros_like(g[:, :1]), g[:, :-1]], dim=1)
            grad_hopping = (product * previous).real.reshape(shape)
        total = product.sum()
        return -product.real.reshape(shape), grad_hopping, total.real, -total.imag
