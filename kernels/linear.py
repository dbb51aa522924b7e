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
    """x @ weightᵀ and x itself, for x that has another consumer: its gradients are added inside the product.

    Left to autograd, the sum of two gradients is a pass of its own over three tensors as large as x.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, known: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """x [..., in] in the compute dtype, weight [out, in], a master weight → [..., out], [..., in].

        known: where the product is put, or taken from if it is there: what is computed again under
        checkpointing does not multiply again.
        """
        compute = weight.to(x.dtype)
        ctx.save_for_backward(x, compute)
        ctx.weight_dtype = weight.dtype
        if known:
            product = known.pop()
        else:
            product = F.linear(x, compute)
            if known is not None:
                known.append(product.detach())
        return product, x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        by_product, by_x = (gradient.flatten(0, -2) for gradient in gradients)
        by_weight = by_product.T @ x.flatten(0, -2)
        return torch.addmm(by_x, by_product, weight).view(x.shape), by_weight.to(ctx.weight_dtype), None
