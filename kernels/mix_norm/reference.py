"""The block's epilogue, eager."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layer_norm.reference import layer_norm


def causal_conv3(n: Tensor, weight: Tensor) -> Tensor:
    """Depthwise causal convolution of width 3: y_t = w_0·n_{t−2} + w_1·n_{t−1} + w_2·n_t.

    n [B, N, d], weight [3, d] in n's dtype.
    """
    y = n * weight[2]
    for lag in (1, 2):
        if n.shape[1] > lag:
            shifted = n[:, :-lag] * weight[2 - lag]
            y = y + torch.cat([torch.zeros_like(y[:, :lag]), shifted], dim=1)
    return y


def mix_norm(
    local: Tensor,
    ranked: Tensor,
    n: Tensor,
    g_re: Tensor,
    g_im: Tensor,
    theta: Tensor,
    global_weight: Tensor,
    global_bias: Tensor,
    conv_weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    resolvent_scale: Tensor,
    resolvent_weight: Tensor,
    resolvent_bias: Tensor,
    residual: Tensor | None,
) -> Tensor:
    """y = LayerNorm(m·local + (1 − m)·global) + b_s ⊙ (W_g [Re g, Im g] + b_g), plus residual.

    global = W_o·ranked + b_o + conv3(n) and m = sigmoid(θ·Im g). local, n, residual [B, N, d] and
    ranked [B, N, R] in the compute dtype; g_re, g_im [B, N] float32. Master weights:
    global_weight (W_o) [d, R], conv_weight [3, d], resolvent_weight (W_g) [d, 2]; global_bias (b_o),
    norm_weight, norm_bias, resolvent_scale (b_s), resolvent_bias (b_g) [d].
    Returns [B, N, d] in local's dtype.
    Source: docs/model.md, AR-SSM (global) and Mix.
    """
    dtype = local.dtype
    m = torch.sigmoid(theta.to(g_im.dtype) * g_im)[..., None].to(dtype)
    projected = F.linear(ranked, global_weight.to(dtype), global_bias.to(dtype))
    total = projected + causal_conv3(n, conv_weight.to(dtype))
    mixed = layer_norm(m * local + (1 - m) * total, norm_weight, norm_bias)
    g = torch.stack([g_re, g_im], dim=-1).to(dtype)
    resolvent = g @ resolvent_weight.to(dtype).T + resolvent_bias.to(dtype)
    y = mixed + resolvent_scale.to(dtype) * resolvent
    return y if residual is None else residual + y
