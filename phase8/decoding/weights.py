"""A model's weights as decoding reads them: cast and joined once, instead of at each token."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.bk_gate.reference import ENERGY
from ...kernels.block_scalars.reference import block_scalars
from ...kernels.spectral_norm.reference import spectral_norm
from ..mixers import ARSSMFusion, Block, HyperbolicIntegration, LowRankFFN
from ..model import Phase8Model


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWeights:
    """Of one block. In the compute dtype, but for what is named wide: float32, or float64 of a float64 model.

    Source: docs/model.md, Block, whose letters the comments have.
    """

    norm: tuple[Tensor, Tensor]  # weight, bias [d]
    in_weight: Tensor  # rows that n meets: q, k [2·d], v [d], u, v of the AR-SSM [R], W_1 [h], w_v [1]
    in_bias: Tensor  # b_1 at its rows, else 0
    splits: list[int]  # of these rows
    potential_bias: Tensor  # b_v, wide scalar
    energy: Tensor  # z, complex wide scalar
    curvature: Tensor  # c, wide scalar
    sharpness: Tensor  # β, wide scalar
    sqrt_c: Tensor  # √c, wide scalar
    score_scale: Tensor  # −β·√D / √c, wide scalar
    sink: Tensor  # attention_bias, wide scalar
    out_weight: Tensor  # W_o [d, d]
    gate: tuple[Tensor, Tensor]  # W_2 [R, h], b_2 [R]
    decay: Tensor  # λ, wide [R]
    mean_weight: Tensor  # 1 − λ, wide [R]
    ranked: tuple[Tensor, Tensor]  # W_r [d, R], b_r [d]
    conv_weight: Tensor  # f [3, d]
    theta: Tensor  # θ, wide scalar
    mix_norm: tuple[Tensor, Tensor]  # weight, and bias + ρ ⊙ b_g [d]
    resolvent: Tensor  # ρ ⊙ W_g [d, 2]
    ffn: LowRankFFN | None

    @classmethod
    def of(cls, block: Block, dtype: torch.dtype) -> BlockWeights:
        """The weights of a block for a compute dtype."""
        d, rank = block.config.d_model, block.config.ar_ssm_rank
        hidden = block.config.state_dim
        in_bias = block.gate_bias1.new_zeros(len(block.in_weight))
        in_bias[-hidden:] = block.gate_bias1
        scale = block.resolvent_scale
        energy_im, curvature, sharpness = block_scalars(block.epsilon, block.log_curvature, block.beta)
        return cls(
            norm=(block.norm.weight.to(dtype), block.norm.bias.to(dtype)),
            in_weight=torch.cat([block.in_weight, block.potential_weight[None]]).to(dtype),
            in_bias=torch.cat([in_bias, in_bias.new_zeros(1)]).to(dtype),
            splits=[2 * d, d, rank, rank, hidden, 1],
            potential_bias=block.potential_bias,
            energy=torch.complex(block.gamma, energy_im),
            curvature=curvature,
            sharpness=sharpness,
            sqrt_c=curvature.sqrt(),
            score_scale=-sharpness * block.config.head_dim**0.5 / curvature.sqrt(),
            sink=block.attention_bias,
            out_weight=block.out_weight.to(dtype),
            gate=(block.gate_weight2.to(dtype), block.gate_bias2.to(dtype)),
            decay=block.decay,
            mean_weight=1 - block.decay,
            ranked=(block.global_weight.to(dtype), block.global_bias.to(dtype)),
            conv_weight=block.conv_weight.to(dtype),
            theta=block.theta,
            mix_norm=(
                block.mix_norm.weight.to(dtype),
                (block.mix_norm.bias + scale * block.resolvent_bias).to(dtype),
            ),
            resolvent=(scale[:, None] * block.resolvent_weight).to(dtype),
            ffn=None if block.ffn is None else copy.deepcopy(block.ffn).to(dtype),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadWeights:
    """Of the head side of phase8: in the compute dtype, but for what is named wide.

    Source: docs/model.md, Head side.
    """

    abc: tuple[Tensor, Tensor]  # W_α, W_b, W_c [3·d, d] and their biases
    energy: Tensor  # z0, complex wide scalar
    gate: tuple[Tensor, Tensor]  # (w_re, w_im) [2] and w_0, wide
    fusion: ARSSMFusion  # for ω, whose layers are wide
    inputs: tuple[Tensor, Tensor]  # W_e [h, d], b_e [h]
    a_high: Tensor  # [R, h]
    a_low: Tensor  # κ·A_low [h, R]
    transition: Tensor  # M, wide [R, R]
    outputs: tuple[Tensor, Tensor]  # W_s [d, h], b_s [d]
    skip: Tensor  # ξ [d]

    @classmethod
    def of(cls, integration: HyperbolicIntegration, fusion: ARSSMFusion, dtype: torch.dtype) -> HeadWeights:
        """The weights of both parts for a compute dtype."""
        product = fusion.a_high @ fusion.a_low
        kappa = 1 / spectral_norm(product).clamp_min(1.0)
        energy_re, energy_im = (product.new_full((), part) for part in ENERGY)
        return cls(
            abc=(integration.abc_weight.to(dtype), integration.abc_bias.to(dtype)),
            energy=torch.complex(energy_re, energy_im),
            gate=(integration.gate_weight, integration.gate_bias),
            fusion=fusion,
            inputs=(fusion.in_weight.to(dtype), fusion.in_bias.to(dtype)),
            a_high=fusion.a_high.to(dtype),
            a_low=(kappa * fusion.a_low).to(dtype),
            transition=kappa * product,
            outputs=(fusion.out_weight.to(dtype), fusion.out_bias.to(dtype)),
            skip=fusion.skip.to(dtype),
        )


def head_weights(model: Phase8Model) -> HeadWeights | None:
    """Those of a model, None in phase7."""
    if model.integration is None or model.fusion is None:
        return None
    return HeadWeights.of(model.integration, model.fusion, model.compute_dtype)
