"""AdamW in eager PyTorch: the truth, in float64 too; 8-bit moments and bfloat16 weights as the kernels have
them."""

from __future__ import annotations

import torch
from torch import Tensor

from .codes import decode, encode
from .random_bits import random_16_bits, rounded_to_bfloat16
from .tensors import Moments, StepScalars


def adamw(
    weight: Tensor,
    gradient: Tensor,
    moments: Moments,
    step: StepScalars,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float,
    seed: int,
    stream: int,
) -> None:
    """One step in place: weight and moments change, with decoupled weight decay.

    weight, gradient: one shape and dtype, float32, float64 (with moments as wide, uncoded) or bfloat16. A
    bfloat16 weight is updated in float32 and rounded stochastically, by numbers that follow from `seed`, from
    `stream`, the weight's own number, and from the step's.
    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019.
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    rate, scale, corrections = (each.to(wide) for each in (step.rate, step.scale, step.corrections))
    grad = gradient.to(wide) * scale
    first, second = _decoded(moments)
    first = first * betas[0] + grad * (1 - betas[0])
    second = second * betas[1] + grad * grad * (1 - betas[1])
    kept = weight.to(wide) * (1 - rate * weight_decay)
    new = kept - rate * corrections[0] * first / (second.sqrt() * corrections[1] + epsilon)
    if weight.dtype == torch.bfloat16:
        bits = random_16_bits(weight.numel(), seed=seed, stream=stream, step=step.number)
        new = rounded_to_bfloat16(new, bits.view(weight.shape))
    for old, changed in zip((weight, *moments), (new, *_coded(first, second, moments)), strict=True):
        if old is not None and changed is not None:
            old.copy_(torch.where(step.skip != 0, old, changed))


def _decoded(moments: Moments) -> tuple[Tensor, Tensor]:
    if moments.first_peaks is None or moments.second_peaks is None:
        return moments.first, moments.second
    first = decode(moments.first, moments.first_peaks, signed=True)
    return first, decode(moments.second, moments.second_peaks, signed=False)


def _coded(first: Tensor, second: Tensor, like: Moments) -> Moments:
    if like.first_peaks is None:
        return Moments(first, second)
    (first_codes, first_peaks), (second_codes, second_peaks) = (
        encode(first, signed=True),
        encode(second, signed=False),
    )
    return Moments(first_codes, second_codes, first_peaks, second_peaks)
