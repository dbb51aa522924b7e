"""Products of activations with master weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weightᵀ + bias in x's dtype; weight [out, in] and bias [out] are master weights."""
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


class LinearFork(torch.autograd.Function):
    """x @ weightᵀ + bias, and x itself for another consumer: its gradients are added inside the product.

    Left to autograd, the sum of two gradients is a pass of its own over three tensors as large as x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        known: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """x [..., in] in the compute dtype, weight [out, in] and bias [out] master weights → [..., out], x.

        known: where the product is put, or taken from if it is there: what is computed again under
        checkpointing does not multiply again.
        """
        compute = weight.to(x.dtype)
        ctx.save_for_backward(x, compute)
        ctx.weight_dtype, ctx.bias_dtype = weight.dtype, None if bias is None else bias.dtype
        if known:
            product = known.pop()
        else:
            product = F.linear(x, compute, None if bias is None else bias.to(x.dtype))
            if known is not None:
                known.append(product.detach())
        return product, x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        by_product, by_x = (gradient.flatten(0, -2) for gradient in gradients)
        by_weight = by_product.T @ x.flatten(0, -2)
        by_bias = None if ctx.bias_dtype is None else by_product.sum(0, dtype=ctx.bias_dtype)
        by_x = torch.addmm(by_x, by_product, weight).view(x.shape)
        return by_x, by_weight.to(ctx.weight_dtype), by_bias, None
