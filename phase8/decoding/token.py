"""One position: the parts of the model that remember, each from its state and into it.

All sizes are fixed and nothing waits for the device, so that a step can be captured in a CUDA graph; state is
changed where it lies. What can be kept for a key (its norm, its radial factor) is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.window_attention.reference import GRADIENT_FLOOR, radial_factor, radius
from .parts import block_inputs, block_output, chain_inputs, fused, fusion_input, integrated
from .state import DecodingState
from .weights import BlockWeights, HeadWeights


def block(
    weights: BlockWeights, state: DecodingState, layer: int, x: Tensor, slot: Tensor, hidden_slots: Tensor
) -> Tensor:
    """One block on one position: x [B, d] in the compute dtype → [B, d]; its g stays in the state.

    slot [1] int64: where the position lies in the window. hidden_slots [w] wide: −∞ at slots that no position
    has taken yet, else 0.
    """
    wide = state.keys.dtype
    inputs = block_inputs(weights, x, wide)
    g = state.resolvents[layer]
    torch.reciprocal(inputs.alpha - g, out=g)
    heads = _attention(weights, state, layer, inputs.qk, inputs.v, slot, hidden_slots)
    average = state.averages[layer]
    average.lerp_(inputs.averaged, weights.mean_weight)  # λ·s + (1 − λ)·…
    total = F.linear((inputs.read * average).to(x.dtype), *weights.ranked)
    before, last = state.taps[layer]
    for n, weight in zip((before, last, inputs.n), weights.conv_weight, strict=True):
        total = torch.addcmul(total, n, weight)
    before.copy_(last)
    last.copy_(inputs.n)
    return block_output(weights, x, heads, total, g, wide)


def _attention(
    weights: BlockWeights,
    state: DecodingState,
    layer: int,
    qk: Tensor,
    v: Tensor,
    slot: Tensor,
    hidden_slots: Tensor,
) -> Tensor:
    """Attention of one query to the window, which takes its key and value in first. Returns [B, d].

    The distance is that of kernels.window_attention.reference.distance.
    """
    keys, values, radial = state.keys[layer], state.values[layer], state.radial[layer]
    batch, heads, _, dim = keys.shape
    qk = qk.view(batch, 2, heads, dim).to(keys.dtype)
    rho = radius(qk)
    own = torch.stack([rho, *radial_factor(rho, weights.sqrt_c)])  # [3, B, 2, H]: of the query, of the key
    keys.index_copy_(2, slot, qk[:, 1, :, None])
    values.index_copy_(2, slot, v.view(batch, heads, 1, dim))
    radial.index_copy_(3, slot, own[:, :, 1, :, None])
    (rho, s, factor_q), (sigma, t, factor_k) = own[:, :, 0, :, None], radial
    dot = torch.matmul(keys, qk[:, 0, :, :, None])[..., 0]
    angle = (rho * sigma - dot).clamp_min(0.0)
    delta = 2 * torch.sinh(s - t).square() + factor_q * factor_k * angle + GRADIENT_FLOOR
    log = torch.log1p(delta + delta.sqrt() * (delta + 2).sqrt())
    scores = torch.addcmul(hidden_slots, log, weights.score_scale)
    logits = torch.cat([scores, weights.sink.expand(batch, heads, 1)], dim=-1)
    attention = torch.softmax(logits, dim=-1)[..., None, :-1].to(values.dtype)
    return torch.matmul(attention, values).view(batch, -1)


def head(weights: HeadWeights, state: DecodingState, u: Tensor) -> Tensor:
    """The head side on one position: u [B, d] in the compute dtype → [B, d]."""
    assert state.chain is not None
    assert state.hopping is not None
    assert state.ranks is not None
    wide = state.ranks.dtype
    alpha, b, c = chain_inputs(weights, u, wide)
    torch.reciprocal(alpha - state.hopping * c * state.chain, out=state.chain)
    state.hopping.copy_(b)
    u = integrated(weights, u, state.chain, wide)
    e = fusion_input(weights, u, state.resolvents[-1])
    out = fused(weights, u, e, state.ranks)
    w = F.linear(e, weights.a_high).to(wide)
    state.ranks.copy_(torch.addmm(w, state.ranks, weights.transition.T))
    return out
