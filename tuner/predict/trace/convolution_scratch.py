"""What cuDNN takes inside a convolution: copies of its operands with the channels last.

cuDNN computes with channels last; operands that are laid out otherwise are copied before, and the result
after. Its workspaces are not published. Seen on an H200, of a ResNet-50 and a U-Net, in bfloat16, float16 and
float32 (studies/results/2026-11-29-h200-foreign): in 16 bits all but a handful are these to the byte, in 32
bits most, and a few need less or more. Operands with channels last need none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

_ALIGNED_BYTES = 16
"""What the copies take beside their elements."""
_CHANNELS_BYTES = 16
"""Channels of a copy are filled up to so many bytes: eight halves, four of float32."""


def convolution(arguments: Sequence[Any], made: Tensor) -> list[int]:
    """Of (input, weight, bias, stride, padding, dilation, transposed, output padding, groups)."""
    values, weight, _, strides, *_, groups = arguments
    if _needs_none(values, groups) or (_is_pointwise(weight) and math.prod(strides) == 1):
        return []  # a product of matrices, which takes the operands as they are
    return _copies(values, made.shape, weight)


def convolution_backward(arguments: Sequence[Any], made: Any) -> list[int]:
    """Of (gradient of the output, input, weight, …): one gradient after the other, each with as much."""
    gradient, values, weight, *_, groups, _ = arguments
    return [] if _needs_none(values, groups) else _copies(values, gradient.shape, weight)


def _needs_none(values: Tensor, groups: int) -> bool:
    """Channels last already, or a channel by itself, for which PyTorch has a kernel of its own."""
    has_channels_last = values.dim() > 2 and values.stride(1) == 1 and values.shape[1] > 1
    return has_channels_last or groups == values.shape[1] > 1


def _is_pointwise(weight: Tensor) -> bool:
    return math.prod(weight.shape[2:]) == 1


def _copies(values: Tensor, made: Sequence[int], weight: Tensor) -> list[int]:
    step = _CHANNELS_BYTES // values.element_size()

    def filled(shape: Sequence[int]) -> int:
        return math.prod(shape) // shape[1] * (-(-shape[1] // step) * step)

    elements = filled(values.shape) + filled(made)
    if not _is_pointwise(weight):
        elements += filled(weight.shape)
    return [elements * values.element_size() + _ALIGNED_BYTES]
