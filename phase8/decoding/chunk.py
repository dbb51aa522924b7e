"""Many positions at once, from a state and into it: how a prompt is read, with the reference's operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.ar_ssm_scan.reference import decayed_sum
from ...kernels.mix_norm.reference import causal_conv3
from ...kernels.rank_scan.reference import rank_scan
from ...kernels.window_attention.reference import radial_factor, radius, window_attention
from .parts import block_inputs, block_output, chain_inputs, fused, fusion_input, integrated
from .state import DecodingState
from .weights import BlockWeights, HeadWeights


def block(weights: BlockWeights, state: DecodingState, layer: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """One block on C positions: x [B, C, d] in the compute dtype → [B, C, d], and g [B, C] complex."""
    wide = state.keys.dtype
    inputs = block_inputs(weights, x, wide)
    g = _chain(inputs.alpha, None, state.resolvents[layer])
    heads = _attention(weights, state, layer, inputs.qk, inputs.v)
    averaged = weights.mean_weight * inputs.averaged
    averaged[:, 0] += weights.decay * state.averages[layer]
    averages = decayed_sum(averaged, weights.decay)
    state.averages[layer] = averages[:, -1]
    n = torch.cat([state.taps[layer].transpose(0, 1), inputs.n], dim=1)
    state.taps[layer] = n[:, -2:].transpose(0, 1)
    total = F.linear((inputs.read * averages).to(x.dtype), *weights.ranked)
    total = total + causal_conv3(n, weights.conv_weight)[:, 2:]
    return block_output(weights, x, heads, total, g, wide), g


def _chain(alpha: Tensor, hopping: Tensor | None, before: Tensor) -> Tensor:
    """g_i = 1 / (alpha_i − t_i·g_{i−1}), [B, C, …] complex, from g before the chunk and into it.

    A loop: the scans of the kernels begin at g = 0 alone. hopping: t, wide, or None for 1.
    """
    g, found = before, []
    for i in range(alpha.shape[1]):
        g = (alpha[:, i] - (g if hopping is None else hopping[:, i] * g)).reciprocal()
        found.append(g)
    before.copy_(g)
    return torch.stack(found, dim=1)


def _attention(weights: BlockWeights, state: DecodingState, layer: int, qk: Tensor, v: Tensor) -> Tensor:
    """Windowed attention of C queries to their chunk and to the window before it. Returns [B, C, d]."""
    keys, values = state.keys[layer], state.values[layer]
    (batch, heads, window, dim), count, length = keys.shape, v.shape[1], state.length
    q, k = qk.view(batch, count, 2, heads, dim).unbind(2)
    v = v.view(batch, count, heads, dim)
    kept = min(length, window - 1)
    slots = torch.arange(length - kept, length, device=v.device) % window
    all_k = torch.cat([keys[:, :, slots].transpose(1, 2).to(k.dtype), k], dim=1)
    all_v = torch.cat([values[:, :, slots].transpose(1, 2), v], dim=1)
    out = window_attention(
        F.pad(q, (0, 0, 0, 0, kept, 0)),  # queries of what was kept: nobody asks for their rows
        all_k,
        all_v,
        weights.curvature,
        weights.sharpness,
        weights.sink,
        window,
    )[:, kept:]

    latest = min(count, window)
    slots = torch.arange(length + count - latest, length + count, device=v.device) % window
    k, v = (t[:, -latest:].transpose(1, 2) for t in (k, v))
    rho = radius(k)
    keys[:, :, slots] = k.to(keys.dtype)
    values[:, :, slots] = v
    state.radial[layer][..., slots] = torch.stack([rho, *radial_factor(rho, weights.sqrt_c)])
    return out.reshape(batch, count, -1)


def head(weights: HeadWeights, state: DecodingState, u: Tensor, g: Tensor) -> Tensor:
    """The head side on C positions: u [B, C, d] in the compute dtype and the last block's g → [B, C, d]."""
    assert state.chain is not None
    assert state.hopping is not None
    assert state.ranks is not None
    wide = state.ranks.dtype
    alpha, b, c = chain_inputs(weights, u, wide)
    hopping = torch.cat([state.hopping[:, None], b[:, :-1]], dim=1) * c
    u = integrated(weights, u, _chain(alpha, hopping, state.chain), wide)
    state.hopping.copy_(b[:, -1])
    e = fusion_input(weights, u, g)
    w = F.linear(e, weights.a_high).to(wide)
    w[:, 0] += state.ranks @ weights.transition.T
    ranks = rank_scan(w, weights.transition)
    out = fused(weights, u, e, torch.cat([state.ranks[:, None], ranks[:, :-1]], dim=1))
    state.ranks.copy_(ranks[:, -1])
    return out
