"""Selective checkpointing of a transformer's block: products are kept, what lies between is computed again.

Source: PyTorch's selective activation checkpointing, torch.utils.checkpoint.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

_aten = torch.ops.aten
_PRODUCTS = (_aten.mm.default, _aten.addmm.default)
_ATTENTION = (
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
)


def keeping_products(ffn_dim: int) -> Callable[[], Any]:
    """The contexts of `torch.utils.checkpoint.checkpoint` under which a block keeps products and attention.

    The product from ffn_dim channels is the block's last: nothing in the backward pass reads it.
    """
    return functools.partial(create_selective_checkpoint_contexts, functools.partial(_policy, ffn_dim))


def _policy(ffn_dim: int, context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    if operation in _ATTENTION:
        return CheckpointPolicy.MUST_SAVE
    is_kept = operation in _PRODUCTS and args[-1].shape[0] != ffn_dim
    return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE
