"""AdamW as one kernel a weight, with clipping, 8-bit moments and stochastic rounding inside.

Traffic a number with 8-bit moments and bfloat16: 2 of the gradient, 2 + 2 of the weight, 2 · (1 + 1) of the
moments and 0.06 of their peaks, 10 bytes, where float32 takes 28 and clipping another 8. The step's scalars
stay on the device, so that a captured step needs nothing of the host.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from ..device_limits import require_triton_device
from ..versions import UnsupportedVersionError
from .codes import BLOCK
from .tensors import Moments, StepScalars
from .tiles import update_kernel

OPTIONS = {"BLOCKS": 4, "num_warps": 4}
"""What the kernel is compiled with: a block a warp, so that a thread has 8 numbers in a row."""


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
    """As the reference; weight and gradient are float32 or bfloat16, the weight contiguous.

    Raises: UnsupportedVersionError for a device or dtypes that the kernel does not take.
    """
    if weight.dtype not in (torch.float32, torch.bfloat16) or gradient.dtype != weight.dtype:
        raise UnsupportedVersionError(
            "adamw: expected weight and gradient both in float32 or both in bfloat16, got "
            f"{weight.dtype} and {gradient.dtype}; version 'reference' also takes float64"
        )
    if not weight.is_contiguous():
        raise UnsupportedVersionError(
            "adamw: expected a contiguous weight, got another; version 'reference' takes every one"
        )
    require_triton_device(weight, "adamw")
    _adamw(weight, gradient, *moments, *step, *betas, epsilon, weight_decay, seed, stream)


@torch.library.custom_op(
    "phase8::adamw_fast", mutates_args=("weight", "first", "second", "first_peaks", "second_peaks")
)
def _adamw(
    weight: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    first_peaks: Tensor | None,
    second_peaks: Tensor | None,
    number: Tensor,
    rate: Tensor,
    corrections: Tensor,
    scale: Tensor,
    skip: Tensor,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    seed: int,
    stream: int,
) -> None:
    count, is_bf16 = weight.numel(), weight.dtype == torch.bfloat16
    numbers = [weight, gradient.contiguous()]
    if is_bf16:
        numbers = [tensor.view(torch.int16) for tensor in numbers]
    update_kernel[(triton.cdiv(count, OPTIONS["BLOCKS"] * BLOCK),)](
        *numbers, first, second, first_peaks, second_peaks, number, rate, corrections, scale, skip,
        count, beta1, 1 - beta1, beta2, 1 - beta2, epsilon, weight_decay, seed, stream,
        IS_8BIT=first_peaks is not None, IS_BF16=is_bf16, **OPTIONS,
    )  # fmt: skip


_adamw.register_fake(lambda *arguments, **named: None)  # it changes its arguments, and returns nothing
