"""What libraries take inside one operation of a model that is not ours: attention's backward passes, and
convolutions (`convolution_scratch.py`).

Accumulators of fused attention, in float32, as PyTorch allocates them around the kernels. cuDNN's own
workspaces are not published: what is assumed of them is said with each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .convolution_scratch import convolution, convolution_backward

Bytes = list[int]
_FLOAT32_BYTES = 4
_FLASH_ROWS, _FLASH_NARROW, _FLASH_STEP, _FLASH_WIDE_STEP = 128, 128, 32, 64
_EFFICIENT_ROWS, _EFFICIENT_STEP = 64, 32


def _flash_backward(arguments: Sequence[Any], made: Any) -> Bytes:
    """Row sums and the accumulator of dq; with fewer key heads their gradients for every query head.

    Source: aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_bwd.
    """
    query, key = arguments[1], arguments[2]
    batch, heads, rows, width = query.shape
    rows = _up(rows, _FLASH_ROWS)
    wide = _up(width, _FLASH_STEP if width <= _FLASH_NARROW else _FLASH_WIDE_STEP)
    taken = [_FLOAT32_BYTES * batch * heads * rows, _FLOAT32_BYTES * batch * rows * heads * wide]
    if key.shape[1] != heads:
        taken += [batch * key.shape[2] * heads * width * key.element_size()] * 2
    return taken


def _efficient_backward(arguments: Sequence[Any], made: Any) -> Bytes:
    """Row sums; of 16-bit operands also the accumulator of dq, of float32 ones the product they are of.

    Source: aten/src/ATen/native/transformers/cuda/attention_backward.cu (_efficient_attention_backward) and
    mem_eff_attention/kernel_backward.h (workspace_elements_gq).
    """
    query: Tensor = arguments[1]
    batch, heads, rows, width = query.shape
    sums = _FLOAT32_BYTES * batch * heads * _up(rows, _EFFICIENT_STEP)
    if query.element_size() == _FLOAT32_BYTES:
        return [sums, _FLOAT32_BYTES * query.numel()]
    gathered = _up(rows, _EFFICIENT_ROWS) * _up(width, _EFFICIENT_STEP)
    return [sums, _FLOAT32_BYTES * batch * heads * gathered]


def _cudnn_backward(arguments: Sequence[Any], made: Any) -> Bytes:
    """Assumed to be flash's: row sums and the accumulator of dq, in one workspace."""
    query = arguments[1]
    batch, heads, rows, width = query.shape
    return [_FLOAT32_BYTES * batch * heads * rows * (width + 1)]


LIBRARY_SCRATCH: dict[str, Callable[[Sequence[Any], Any], Bytes]] = {
    "_scaled_dot_product_flash_attention_backward": _flash_backward,
    "_scaled_dot_product_efficient_attention_backward": _efficient_backward,
    "_scaled_dot_product_cudnn_attention_backward": _cudnn_backward,
    "convolution": convolution,
    "convolution_backward": convolution_backward,
}
"""Operation of ATen → bytes held while it runs, beside inputs and outputs."""


def _up(count: int, step: int) -> int:
    return -(-count // step) * step
