"""The head's loss as a custom op: one definition for every version, which differ in how they make gradients.

The loss is a mean, so what arrives from above is one number: the forward op already makes the gradients, of
the sum over tokens, and the backward op multiplies them by upstream / T in float32: no recomputation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..device_limits import require_triton_device
from .plan import head_shape
from .rows import scaled

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Loss, then gradients of T · loss: of h in its dtype, of core1, core2 and phase in float32."""
Differentiated = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], Gradients]
Evaluated = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]
_INPUTS = "(Tensor h, Tensor core1, Tensor core2, Tensor phase, Tensor targets, int vocab_size)"


@torch.library.custom_op(
    "phase8::htt_cross_entropy_backward",
    mutates_args=(),
    schema="(Tensor upstream, Tensor h, Tensor core1, Tensor core2, Tensor phase)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    upstream: Tensor, h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of upstream · loss from those of T · loss; upstream: a float32 scalar."""
    mean = 1.0 / h.shape[0]
    return (
        scaled(h, upstream, mean),
        scaled(core1, upstream, mean),
        scaled(core2, upstream, mean),
        scaled(phase, upstream, mean),
    )


@_backward.register_fake
def _(upstream: Tensor, h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor) -> Any:
    return tuple(torch.empty_like(gradient) for gradient in (h, core1, core2, phase))


def define_htt_cross_entropy(
    version: str, differentiate: Differentiated, evaluate: Evaluated
) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]:
    """Register phase8::htt_cross_entropy_<version> and …_<version>_loss, and return the function over them.

    Saved for backward: the gradient of h (2·d bytes a token in 16 bits) and those of the cores.
    """

    @torch.library.custom_op(
        f"phase8::htt_cross_entropy_{version}",
        mutates_args=(),
        schema=f"{_INPUTS} -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    )
    def forward(
        h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
    ) -> Gradients:
        require_triton_device(h, f"htt_cross_entropy {version}")
        return differentiate(
            _rows(h), core1.contiguous(), core2.contiguous(), phase.contiguous(), targets, vocab_size
        )

    @forward.register_fake
    def _(
        h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
    ) -> Gradients:
        head_shape(h, core1, core2, phase, targets, vocab_size)
        loss = h.new_empty((), dtype=torch.float32)
        cores = (core1.new_empty(core1.shape), core2.new_empty(core2.shape), phase.new_empty(phase.shape))
        return loss, h.new_empty(h.shape), *cores

    def setup_context(ctx: Any, inputs: Any, output: Gradients) -> None:
        ctx.set_materialize_grads(False)  # no zeros for the outputs that nobody differentiates
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])

    def backward(ctx: Any, upstream: Tensor | None, *_: Any) -> Any:
        if upstream is None:
            return (None,) * 6
        return (*_backward(upstream, *ctx.saved_tensors), None, None)

    forward.register_autograd(backward, setup_context=setup_context)

    @torch.library.custom_op(
        f"phase8::htt_cross_entropy_{version}_loss", mutates_args=(), schema=f"{_INPUTS} -> Tensor"
    )
    def loss_only(
        h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
    ) -> Tensor:
        require_triton_device(h, f"htt_cross_entropy {version}")
        return evaluate(
            _rows(h), core1.contiguous(), core2.contiguous(), phase.contiguous(), targets, vocab_size
        )

    @loss_only.register_fake
    def _(h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int) -> Tensor:
        head_shape(h, core1, core2, phase, targets, vocab_size)
        return h.new_empty((), dtype=torch.float32)

    def htt_cross_entropy(
        h: Tensor, core1: Tensor, core2: Tensor, phase: Tensor, targets: Tensor, vocab_size: int
    ) -> Tensor:
        arguments = (h, core1, core2, phase, targets, vocab_size)
        if torch.is_grad_enabled() and any(x.requires_grad for x in (h, core1, core2, phase)):
            loss: Tensor = forward(*arguments)[0]
        else:
            loss = loss_only(*arguments)
        return loss

    return htt_cross_entropy


def _rows(h: Tensor) -> Tensor:
    """h as kernels read it: a view with contiguous rows stays a view."""
    return h if h.stride(1) == 1 else h.contiguous()
