"""What a step of AdamW changes, and what of it is on the device: no step waits for the host."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .codes import BLOCK


class Moments(NamedTuple):
    """Both moments of a weight, in its shape: float32 without peaks, or uint8 codes with those of each block.

    Peaks are float32 [⌈n / BLOCK⌉]: the largest magnitude of BLOCK numbers in a row, which its codes are
    shares of.
    """

    first: Tensor
    second: Tensor
    first_peaks: Tensor | None = None
    second_peaks: Tensor | None = None


class StepScalars(NamedTuple):
    """Of a step, 0-dim on the device; `corrections` alone has two numbers, 1/(1 − β₁ᵗ) and 1/√(1 − β₂ᵗ).

    number: of the step, counted from 1. scale: what gradients are multiplied by (clipping). skip: other than
    zero where nothing is to change, as after an overflow of float16.
    """

    number: Tensor
    rate: Tensor
    corrections: Tensor
    scale: Tensor
    skip: Tensor


def new_moments(weight: Tensor, *, is_8bit: bool) -> Moments:
    """Moments before the first step: zeros."""
    if not is_8bit:
        first, second = (torch.zeros_like(weight, dtype=torch.float32) for _ in range(2))
        return Moments(first, second)
    blocks = -(-weight.numel() // BLOCK)
    first_peaks, second_peaks = (
        torch.zeros(blocks, dtype=torch.float32, device=weight.device) for _ in range(2)
    )
    first, second = (torch.zeros_like(weight, dtype=torch.uint8) for _ in range(2))
    return Moments(first, second, first_peaks, second_peaks)


def corrections(number: Tensor, betas: tuple[float, float]) -> Tensor:
    """1/(1 − β₁ᵗ) and 1/√(1 − β₂ᵗ) of step t = number, float32 [2], from float64: β₂ᵗ is near 1 at first."""
    first, second = (-torch.expm1(number.double() * math.log(beta)) for beta in betas)
    return torch.stack([first.reciprocal(), second.rsqrt()]).float()
