"""Where PyTorch chooses by device: on tensors of the meta device it is made to choose as on CUDA.

Composite operations ask what device they run on: a dropout on CUDA is one kernel with a mask of bytes, an
attention one of four implementations. They are replaced above autograd, so that the chosen operation's own
backward pass is what follows.

Source: pytorch, aten/src/ATen/native/Dropout.cpp (is_fused_kernel_acceptable), aten/src/ATen/native/
transformers/attention.cpp (scaled_dot_product_attention, pad_last_dim, preprocess_mask, pad_bias,
convert_boolean_attn_mask) and .../transformers/cuda/sdp_utils.cpp (select_sdp_backend, priority_order,
check_prefer_cudnn_attention, check_cudnn_tensor_shapes, check_cudnn_dropout), as of 2.11-2.13.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from .not_traceable import not_traceable

Capability = tuple[int, int]
Backend = Literal["cudnn", "flash", "efficient", "math"]
_HALVES = (torch.float16, torch.bfloat16)
_TRAINS_WIDE = ((8, 0), (9, 0), (10, 0), (10, 3))
"""Cards on which flash attention trains heads of every width up to its widest."""
_PREFERS_CUDNN = ((9, 0), (10, 0))
_FLASH_WIDEST, _CUDNN_WIDEST = 256, 128
_CUDNN_DROPOUTS = 16
_MASK_ALIGNMENT = 16
_KEY = "AutogradMeta"
_RECURRENT = ("lstm.input", "lstm.data", "gru.input", "gru.data", "rnn_tanh.input", "rnn_relu.input")


def attention_backend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    capability: Capability,
    *,
    is_grouped: bool = False,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Backend:
    """What computes an attention on a GPU; tensors [B, H, N, d].

    Of implementations that take the arguments the first in order: flash, efficient, math; cuDNN's before them
    on compute capability 9.0 and 10.0.
    """
    enabled: Any = torch.backends.cuda
    width = query.shape[-1]
    is_dense = query.dim() == 4 and key.dim() == 4 and value.dim() == 4
    is_alike = key.shape[-1] == width and value.shape[-1] == width
    has_ones = 0 in query.shape or 0 in key.shape or key.shape[-1] == 0
    is_half = query.dtype in _HALVES and key.dtype == query.dtype and value.dtype == query.dtype
    learns_mask = mask is not None and mask.requires_grad
    # As torch's check_last_dim_stride_equals_1_dense: T5's learnt bias is a permuted table, for one.
    is_packed = all(t.stride(-1) == 1 for t in (query, key, value, *(() if mask is None else (mask,))))
    if not is_dense or has_ones or not is_packed:
        return "math"
    if (
        enabled.cudnn_sdp_enabled()
        and capability in _PREFERS_CUDNN
        and is_half
        and is_alike
        and width <= _CUDNN_WIDEST
        and width % 8 == 0
        and min(query.shape[2], key.shape[2]) > 1
        and dropout * _CUDNN_DROPOUTS == int(dropout * _CUDNN_DROPOUTS)
        and not learns_mask
    ):
        return "cudnn"
    is_flash = (
        enabled.flash_sdp_enabled()
        and is_half
        and is_alike
        and width <= _FLASH_WIDEST
        and mask is None
        and not (is_causal and query.shape[2] != key.shape[2])
        and (capability in _TRAINS_WIDE or width <= 192 or (dropout == 0 and width > 224))
    )
    if is_flash:
        return "flash"
    alignment = 8 if query.dtype in _HALVES else 4
    is_efficient = (
        enabled.mem_efficient_sdp_enabled()
        and query.dtype in (*_HALVES, torch.float32)
        and width % alignment == 0
        and value.shape[-1] % alignment == 0
    )
    if is_efficient and not is_grouped:
        return "efficient"
    return "math"


@contextlib.contextmanager
def choosing_as_on_cuda(capability: Capability) -> Iterator[None]:
    """Inside, composite operations on meta tensors choose as on a GPU of this compute capability."""

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        given = (query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
        return _attention(capability, *given)

    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.impl("dropout", _dropout, _KEY, allow_override=True)
        library.impl("scaled_dot_product_attention", attention, _KEY, allow_override=True)
        library.impl("_fused_rms_norm", _RootMeanSquareNorm.apply, _KEY, allow_override=True)
        for name in _RECURRENT:
            library.impl(name, _refuse_recurrent, _KEY, allow_override=True)
        stack.callback(library._destroy)
        yield


def _dropout(input: Tensor, p: float, train: bool) -> Tensor:
    if not train or p == 0 or input.numel() == 0:
        return input
    if p == 1:
        return input * torch.zeros((), dtype=input.dtype, device=input.device)
    dropped: Tensor = torch.ops.aten.native_dropout(input, p, train)[0]
    return dropped


class _RootMeanSquareNorm(torch.autograd.Function):
    """One kernel on CUDA, which keeps a number a row.

    Source: aten/src/ATen/native/cuda/layer_norm_kernel.cu (_fused_rms_norm_cuda).
    """

    @staticmethod
    def forward(
        ctx: Any, given: Tensor, shape: Any, weight: Tensor | None, eps: Any
    ) -> tuple[Tensor, Tensor]:
        rows = (*given.shape[: given.dim() - len(shape)], *(1 for _ in shape))
        kept = torch.empty(rows, dtype=torch.float32, device=given.device)
        ctx.save_for_backward(given, weight, kept)
        ctx.mark_non_differentiable(kept)
        return torch.empty_like(given, memory_format=torch.contiguous_format), kept

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        given, weight, _ = ctx.saved_tensors
        of_weight = torch.empty_like(weight) if weight is not None and ctx.needs_input_grad[2] else None
        return torch.empty_like(given), None, of_weight, None


def _refuse_recurrent(*args: Any, **kwargs: Any) -> Any:
    raise not_traceable("a recurrent layer", "what cuDNN keeps for its backward pass is not known")


def _attention(
    capability: Capability,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    scale: float | None,
    is_grouped: bool,
) -> Tensor:
    aten = torch.ops.aten
    backend = attention_backend(
        query, key, value, mask, capability, is_grouped=is_grouped, is_causal=is_causal, dropout=dropout
    )
    if mask is not None and mask.dtype == torch.bool:
        if backend == "math":
            mask = torch.where(mask, 0.0, float("-inf")).to(query.dtype)
        else:
            zero = torch.zeros((), dtype=query.dtype, device=query.device)
            mask = torch.where(mask, zero, float("-inf"))
    width = query.shape[-1]
    scaled = 1 / math.sqrt(width) if scale is None else scale
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    made: Any
    if backend == "math":
        made = aten._scaled_dot_product_attention_math(
            query, key, value, mask, dropout, is_causal, None, scale=scale, enable_gqa=is_grouped
        )
    elif backend == "flash":
        over = -width % 8
        if over:
            query, key, value = (torch.nn.functional.pad(t, (0, over)) for t in (query, key, value))
        made = aten._scaled_dot_product_flash_attention(
            query, key, value, dropout, is_causal, False, scale=scaled
        )
        made = (made[0][..., :width] if over else made[0],)
    else:
        if mask is not None:
            mask = _prepared(mask, query, key)
        given = (query, key, value, mask, learns, dropout, is_causal)
        if backend == "cudnn":
            made = aten._scaled_dot_product_cudnn_attention(*given, False, scale=scale)
        else:
            made = aten._scaled_dot_product_efficient_attention(*given, scale=scale)
    result: Tensor = made[0]
    return result


def _prepared(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """A mask whose rows begin at aligned places, for every batch and head."""
    over = -mask.shape[-1] % _MASK_ALIGNMENT
    if over:
        mask = torch.nn.functional.pad(mask, (0, over))[..., : mask.shape[-1]]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
