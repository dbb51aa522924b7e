"""The parts that mix tokens: the block, the BK hyperbolic integration and the AR-SSM fusion of the head side.

Master weights are float32, product weights may be bfloat16; every product casts its weight to the compute
dtype of its input. Scans and the
hyperbolic distance run in float32 whatever the compute dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..kernels.ar_ssm_scan.reference import decays
from ..kernels.kernel_set import KernelSet
from ..kernels.linear import LinearFork, linear
from .config import Phase8Config

_STD = 0.02  # starting deviation of projections other than q and k
_FFN_RANK = 64


def recomputed(part: Callable[..., Any], *inputs: Tensor) -> Any:
    """part(*inputs), of which the backward pass keeps the inputs alone and computes the rest again."""
    if not torch.is_grad_enabled():
        return part(*inputs)
    # Nothing here is random: the generator's state need not be kept
    return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)


def normal(*shape: int, std: float) -> nn.Parameter:
    """A parameter drawn from N(0, std²)."""
    return nn.Parameter(torch.randn(*shape) * std)


class Norm(nn.Module):
    """Weight and bias of a LayerNorm."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))


class Block(nn.Module):
    """One Phase 8 block: x ← x + y, y the mix of windowed hyperbolic attention and AR-SSM.

    is_selective: what follows from the block's large product is computed again in the backward pass.
    """

    decay: Tensor

    def __init__(self, config: Phase8Config, kernels: KernelSet, *, is_selective: bool = False) -> None:
        super().__init__()
        self.is_selective = is_selective
        d, rank, hidden = config.d_model, config.ar_ssm_rank, config.state_dim
        self.config = config
        self.kernels = kernels
        self.norm = Norm(d)
        self.potential_weight = nn.Parameter(nn.Linear(d, 1).weight.detach()[0])
        self.potential_bias = nn.Parameter(torch.zeros(()))
        self.gamma = nn.Parameter(torch.zeros(()))
        self.epsilon = nn.Parameter(torch.ones(()))
        # Everything projected from n in one product: q, k, v [d each], the AR-SSM's u, v [R each], gate [d/4]
        self.in_weight = nn.Parameter(
            torch.cat(
                [torch.randn(2 * d, d) * d**-0.5, torch.randn(d, d) * _STD]
                + [torch.randn(rows, d) * _STD for rows in (rank, rank, hidden)]
            )
        )
        self.out_weight = normal(d, d, std=_STD)
        self.log_curvature = nn.Parameter(torch.zeros(()))
        self.beta = nn.Parameter(torch.zeros(()))
        self.attention_bias = nn.Parameter(torch.zeros(()))
        self.gate_bias1 = nn.Parameter(torch.zeros(hidden))
        self.gate_weight2 = normal(rank, hidden, std=_STD)
        self.gate_bias2 = nn.Parameter(torch.zeros(rank))
        self.register_buffer("decay", decays(rank), persistent=False)
        self.global_weight = normal(d, rank, std=_STD)
        self.global_bias = nn.Parameter(torch.zeros(d))
        self.conv_weight = nn.Parameter(nn.Conv1d(d, d, 3, groups=d).weight.detach()[:, 0].T.contiguous())
        self.theta = nn.Parameter(torch.ones(()))
        self.mix_norm = Norm(d)
        self.resolvent_scale = nn.Parameter(torch.ones(d))
        self.resolvent_weight = normal(d, 2, std=_STD)
        self.resolvent_bias = nn.Parameter(torch.zeros(d))
        self.ffn = LowRankFFN(d) if config.low_rank_ffn else None

    def product_weights(self) -> list[nn.Parameter]:
        """Matrices that are only multiplied by."""
        of_ffn = [] if self.ffn is None else self.ffn.product_weights()
        return [self.in_weight, self.out_weight, *of_ffn]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, N, d] → the block's output [B, N, d] and its resolvent (Re g, Im g) [B, N]."""
        energy_im, curvature, sharpness = self.kernels.block_scalars(
            self.epsilon, self.log_curvature, self.beta
        )
        y, g_re, g_im = self.kernels.block(
            x,
            self.norm.weight,
            self.norm.bias,
            self.potential_weight,
            self.potential_bias,
            self.gamma,
            energy_im,
            self.in_weight,
            curvature,
            sharpness,
            self.attention_bias,
            self.out_weight,
            self.gate_bias1,
            self.gate_weight2,
            self.gate_bias2,
            self.decay,
            self.theta,
            self.global_weight,
            self.global_bias,
            self.conv_weight,
            self.mix_norm.weight,
            self.mix_norm.bias,
            self.resolvent_scale,
            self.resolvent_weight,
            self.resolvent_bias,
            self.config.n_heads,
            self.config.window,
            self.ffn is None,
            self.is_selective,
        )
        if self.ffn is None:
            return y, g_re, g_im
        return x + (recomputed(self.ffn, y) if self.is_selective else self.ffn(y)), g_re, g_im


class LowRankFFN(nn.Module):
    """y + D2(D1(gelu(U2(U1 y)))): d → 64 → 4d → 64 → d, biases on the wide sides."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.up1 = normal(_FFN_RANK, d_model, std=_STD)
        self.up2 = normal(4 * d_model, _FFN_RANK, std=_STD)
        self.up_bias = nn.Parameter(torch.zeros(4 * d_model))
        self.down1 = normal(_FFN_RANK, 4 * d_model, std=_STD)
        self.down2 = normal(d_model, _FFN_RANK, std=_STD)
        self.down_bias = nn.Parameter(torch.zeros(d_model))

    def product_weights(self) -> list[nn.Parameter]:
        """Matrices that are only multiplied by."""
        return [self.up1, self.up2, self.down1, self.down2]

    def forward(self, y: Tensor) -> Tensor:
        wide = F.gelu(linear(linear(y, self.up1), self.up2, self.up_bias))
        return y + linear(linear(wide, self.down1), self.down2, self.down_bias)


class HyperbolicIntegration(nn.Module):
    """Head side, part 1: a channel-wise resolvent of h gates h."""

    def __init__(self, config: Phase8Config, kernels: KernelSet) -> None:
        super().__init__()
        d = config.d_model
        self.kernels = kernels
        self.abc_weight = normal(3 * d, d, std=_STD)
        self.abc_bias = nn.Parameter(torch.zeros(3 * d))
        self.gate_weight = normal(2, std=_STD)
        self.gate_bias = nn.Parameter(torch.zeros(()))

    def product_weights(self) -> list[nn.Parameter]:
        """Matrices that are only multiplied by."""
        return [self.abc_weight]

    def forward(self, h: Tensor) -> Tensor:
        """h [B, N, d] → [B, N, d]."""
        abc, h = LinearFork.apply(h, self.abc_weight, self.abc_bias)  # type: ignore[no-untyped-call]
        out: Tensor = self.kernels.bk_gate(h, abc, self.gate_weight, self.gate_bias)
        return out


class ARSSMFusion(nn.Module):
    """Head side, part 2: a low-rank state space whose input weight follows the token's hyperbolic radius."""

    def __init__(self, config: Phase8Config, kernels: KernelSet) -> None:
        super().__init__()
        d, rank, state = config.d_model, config.ar_ssm_rank, config.state_dim
        self.kernels = kernels
        self.radius1 = nn.Linear(1, 32)
        self.radius2 = nn.Linear(32, 1)
        self.resolvent = nn.Linear(2, 1)
        self.in_weight = normal(state, d, std=_STD)
        self.in_bias = nn.Parameter(torch.zeros(state))
        self.a_low = normal(state, rank, std=d**-0.5)
        self.a_high = normal(rank, state, std=d**-0.5)
        self.out_weight = normal(d, state, std=_STD)
        self.out_bias = nn.Parameter(torch.zeros(d))
        self.skip = nn.Parameter(torch.zeros(d))

    def product_weights(self) -> list[nn.Parameter]:
        """Matrices that are only multiplied by."""
        return [self.in_weight, self.out_weight]

    def rank_weight_parameters(self) -> tuple[Tensor, ...]:
        """What `rank_weight` takes after h and g."""
        layers = (self.radius1, self.radius2, self.resolvent)
        return tuple(parameter for layer in layers for parameter in (layer.weight, layer.bias))

    def forward(self, h: Tensor, g_re: Tensor, g_im: Tensor) -> Tensor:
        """h [B, N, d], (Re g, Im g) [B, N] of the last block → [B, N, d]."""
        wide = g_re.dtype
        product, h = LinearFork.apply(h, self.in_weight, self.in_bias)  # type: ignore[no-untyped-call]
        omega = self.kernels.rank_weight(h, g_re, g_im, *self.rank_weight_parameters())
        u = omega.to(h.dtype) * product
        transition = self.a_high @ self.a_low
        kappa = 1 / self.kernels.spectral_norm(transition).clamp_min(1.0)
        p = self.kernels.rank_scan(linear(u, self.a_high).to(wide), kappa * transition)
        previous = F.pad(p, (0, 0, 1, 0))[:, :-1].to(h.dtype)
        state = u + linear(previous, kappa * self.a_low)
        return h + linear(state, self.out_weight, self.out_bias) + self.skip.to(h.dtype) * h
