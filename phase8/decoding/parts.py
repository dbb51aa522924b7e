"""What a position computes from itself alone, whether it comes as one token or within a chunk."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.layer_norm.reference import V_MAX
from ...kernels.rank_weight.reference import rank_weight
from .weights import BlockWeights, HeadWeights


class BlockInputs(NamedTuple):
    """What a block reads from n = LN(x); x is [B, d], or [B, C, d] of a chunk, written […, d]."""

    n: Tensor  # […, d]
    qk: Tensor  # […, 2·d], queries and keys of all heads
    v: Tensor  # […, d]
    averaged: Tensor  # a ⊙ (W_u n), wide […, R]
    read: Tensor  # a ⊙ (W_p n), wide […, R]
    alpha: Tensor  # v_i − z of the BK-Core, complex wide […]


def block_inputs(weights: BlockWeights, x: Tensor, wide: torch.dtype) -> BlockInputs:
    """x […, d] in the compute dtype → what the parts of the block read. Source: docs/model.md, Block."""
    n = F.layer_norm(x, x.shape[-1:], *weights.norm)
    product = F.linear(n, weights.in_weight, weights.in_bias)
    qk, v, u, p, hidden, raw = torch.split(product, weights.splits, dim=-1)
    gate = torch.sigmoid(F.linear(F.relu(hidden), *weights.gate).to(wide))
    potential = V_MAX * torch.tanh((raw[..., 0].to(wide) + weights.potential_bias) / V_MAX)
    return BlockInputs(n=n, qk=qk, v=v, averaged=gate * u, read=gate * p, alpha=potential - weights.energy)


def block_output(
    weights: BlockWeights, x: Tensor, heads: Tensor, total: Tensor, g: Tensor, wide: torch.dtype
) -> Tensor:
    """x + y from the block's input x, its heads and its global path `total` […, d] and g […] complex.

    Source: docs/model.md, Mix and Low-rank feed-forward.
    """
    local = F.linear(heads, weights.out_weight)
    m = torch.sigmoid(weights.theta * g.imag).to(x.dtype)[..., None]
    # lerp: total + m·(local − total)
    y = F.layer_norm(torch.lerp(total, local, m), x.shape[-1:], *weights.mix_norm)
    y = y + F.linear(torch.view_as_real(g).to(x.dtype), weights.resolvent)
    return x + (y if weights.ffn is None else weights.ffn(y))


class ChainInputs(NamedTuple):
    """What the hyperbolic integration reads from u, all wide […, d]."""

    alpha: Tensor  # α − z0, complex
    b: Tensor
    c: Tensor


def chain_inputs(weights: HeadWeights, u: Tensor, wide: torch.dtype) -> ChainInputs:
    """u […, d] in the compute dtype → α − z0, b and c of the channels' chains."""
    d = u.shape[-1]
    abc = F.linear(u, *weights.abc).to(wide)
    b, c = torch.sigmoid(abc[..., d:]).chunk(2, dim=-1)
    return ChainInputs(alpha=abc[..., :d] - weights.energy, b=b, c=c)


def integrated(weights: HeadWeights, u: Tensor, chain: Tensor, wide: torch.dtype) -> Tensor:
    """u ⊙ (1 + σ(w_re·Re G + w_im·Im G + w_0)) of the chains' G […, d] complex."""
    weight, bias = weights.gate
    gate = 1 + torch.sigmoid(torch.view_as_real(chain) @ weight + bias)
    return u * gate.to(u.dtype)


def fusion_input(weights: HeadWeights, u: Tensor, g: Tensor) -> Tensor:
    """e = ω·(W_e u + b_e) […, h] of the last block's g […]."""
    omega = rank_weight(u, g.real, g.imag, *weights.fusion.rank_weight_parameters())
    return omega.to(u.dtype) * F.linear(u, *weights.inputs)


def fused(weights: HeadWeights, u: Tensor, e: Tensor, before: Tensor) -> Tensor:
    """u + W_s s + b_s + ξ ⊙ u with s = e + κ·A_low p of the position before, wide […, R]."""
    s = e + F.linear(before.to(u.dtype), weights.a_low)
    return torch.addcmul(u + F.linear(s, *weights.outputs), weights.skip, u)
