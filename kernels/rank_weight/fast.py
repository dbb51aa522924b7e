"""The rank weight in one launch each way: h is read once forward, and once backward, where its gradient is
written. Nothing is kept for the backward but the inputs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from ..layer_norm.tiles import MAX_WIDTH, row_tiles
from ..rows import as_rows, require_rows
from ..segments import require_float32
from . import tiles
from .reference import LARGEST_TANH, SMALLEST_SQUARE

_LARGEST = math.atanh(LARGEST_TANH)
_NAMES = (
    "radius_weight1",
    "radius_bias1",
    "radius_weight2",
    "radius_bias2",
    "resolvent_weight",
    "resolvent_bias",
)


def rank_weight(
    h: Tensor,
    g_re: Tensor,
    g_im: Tensor,
    radius_weight1: Tensor,
    radius_bias1: Tensor,
    radius_weight2: Tensor,
    radius_bias2: Tensor,
    resolvent_weight: Tensor,
    resolvent_bias: Tensor,
) -> Tensor:
    """ω [..., 1] in float32, arguments as in `reference.rank_weight`, but for float64.

    Raises: UnsupportedVersionError for a device, dtype or width that the kernel does not take.
    """
    require_rows(h, "rank_weight", MAX_WIDTH)
    weights = (
        radius_weight1, radius_bias1, radius_weight2, radius_bias2, resolvent_weight, resolvent_bias,
    )  # fmt: skip
    require_float32("rank_weight", "fast", g_re=g_re, g_im=g_im, **dict(zip(_NAMES, weights, strict=True)))
    omega: Tensor = _forward(h, g_re, g_im, list(weights))
    return omega


def _options(h: Tensor, weights: list[Tensor]) -> tuple[int, dict[str, Any]]:
    """Programs that the backward has, and what both kernels are compiled for."""
    count, d, k = h.numel() // h.shape[-1], h.shape[-1], weights[0].shape[0]
    cut = row_tiles(count, d)
    constants = {
        "D": d, "K": k, "ROOT_D": d**0.5, "LARGEST": _LARGEST, "SMALLEST": SMALLEST_SQUARE,
        "ROWS": cut.rows, "WIDTH": cut.width, "LANES": triton.next_power_of_2(k), "num_warps": cut.warps,
    }  # fmt: skip
    return cut.programs, constants


@torch.library.custom_op(
    "phase8::rank_weight_fast",
    mutates_args=(),
    schema="(Tensor h, Tensor g_re, Tensor g_im, Tensor[] weights) -> Tensor",
)
def _forward(h: Tensor, g_re: Tensor, g_im: Tensor, weights: list[Tensor]) -> Tensor:
    rows = as_rows(h)
    count = rows.shape[0]
    omega = _new_omega(h)
    _, constants = _options(h, weights)
    tiles.forward_kernel[(triton.cdiv(count, constants["ROWS"]),)](
        rows, g_re.contiguous(), g_im.contiguous(), *(weight.contiguous() for weight in weights), omega,
        count, rows.stride(0), **constants,
    )  # fmt: skip
    return omega


def _new_omega(h: Tensor) -> Tensor:
    return h.new_empty((*h.shape[:-1], 1), dtype=torch.float32)


@_forward.register_fake
def _(h: Tensor, g_re: Tensor, g_im: Tensor, weights: list[Tensor]) -> Tensor:
    return _new_omega(h)


@torch.library.custom_op(
    "phase8::rank_weight_fast_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor h, Tensor g_re, Tensor g_im, Tensor[] weights)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad: Tensor, h: Tensor, g_re: Tensor, g_im: Tensor, weights: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of h, g_re, g_im, and of the weights by program [programs, 3·k + 4] float32."""
    rows = as_rows(h)
    programs, constants = _options(h, weights)
    gradients = _new_gradients(h, weights)
    tiles.backward_kernel[(programs,)](
        grad.contiguous(), rows, g_re.contiguous(), g_im.contiguous(),
        *(weight.contiguous() for weight in weights), *gradients, rows.shape[0], rows.stride(0), **constants,
    )  # fmt: skip
    return gradients


def _new_gradients(h: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    programs, constants = _options(h, weights)
    grad_re, grad_im = (h.new_empty(h.shape[:-1], dtype=torch.float32) for _ in range(2))
    partials = h.new_empty((programs, 3 * constants["K"] + 4), dtype=torch.float32)
    return h.new_empty(h.shape), grad_re, grad_im, partials


@_backward.register_fake
def _(
    grad: Tensor, h: Tensor, g_re: Tensor, g_im: Tensor, weights: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _new_gradients(h, weights)


def _setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
    h, g_re, g_im, weights = inputs
    ctx.save_for_backward(h, g_re, g_im, *weights)


def _differentiate(ctx: Any, grad: Tensor) -> Any:
    h, g_re, g_im, *weights = ctx.saved_tensors
    grad_h, grad_re, grad_im, partials = _backward(grad, h, g_re, g_im, weights)
    parts = torch.split(partials.sum(0), [weight.numel() for weight in weights])
    by_weights = [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]
    return grad_h, grad_re, grad_im, by_weights


_forward.register_autograd(_differentiate, setup_context=_setup_context)
