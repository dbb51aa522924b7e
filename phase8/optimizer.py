"""AdamW whose state is small: moments in 8 bits, weights in bfloat16, clipping inside; a step never waits for
the host, so that it can be captured."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from ..kernels.adamw.tensors import Moments, StepScalars, corrections, new_moments

OptimizerState = Literal["fp32", "8bit"]
MasterWeights = Literal["fp32", "bf16_sr"]
SMALLEST_8BIT = 4096
"""Numbers a weight has at least where its moments are kept in 8 bits: those of smaller ones are few, and a
scalar's would be as coarse as a block's."""


class CompactAdamW(torch.optim.Optimizer):
    """AdamW with clipping, for weights of float32 and bfloat16.

    Weights of bfloat16 are rounded stochastically, and need no copy in float32; where `is_8bit`, weights of
    SMALLEST_8BIT numbers and more have moments in 8 bits. The others are PyTorch's fused AdamW's. All that a
    step follows from is in the state and in `seed`: a training that goes on takes the steps it would have.

    max_gradient_norm: of all gradients together, which are not changed. Learning rates may lie on the device.
    """

    # What torch.amp.GradScaler asks: it then leaves `found_inf` here and never waits for it.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        *,
        lr: float | Tensor,
        betas: tuple[float, float],
        max_gradient_norm: float,
        is_8bit: bool,
        kernel_version: str,
        seed: int,
        epsilon: float = 1e-8,
    ) -> None:
        # foreach: gradients that stay are zeroed in one launch
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "foreach": True})
        self._betas, self._epsilon, self._seed = betas, epsilon, seed
        self._max_gradient_norm, self._is_8bit = max_gradient_norm, is_8bit
        version = "reference" if kernel_version == "reference" else "fast"
        package = __package__.rpartition(".")[0]
        self._update: Callable[..., None] = importlib.import_module(
            f"{package}.kernels.adamw.{version}"
        ).adamw
        for group in self.param_groups:  # now: beside nothing that is given back, and would leave holes
            for p in group["params"]:
                self._state_of(p)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step by the gradients that are there."""
        scale = self._clipping([p.grad for group in self.param_groups for p in group["params"]])
        found: Tensor | None = getattr(self, "found_inf", None)
        skip = torch.zeros_like(scale) if found is None else found
        for group in self.param_groups:
            rest = [p for p in group["params"] if p.grad is not None and not self._is_compact(p)]
            if rest:
                self._step_fused(group, rest, scale, found)
        compact = list(self._compact())
        if not compact:
            return
        numbers = [self._state_of(p)["step"] for _, p, _ in compact]
        torch._foreach_add_(numbers, [1 - skip] * len(numbers))
        corrected = corrections(numbers[0], self._betas)
        rates = {id(group): _on_device(group["lr"], scale) for group in self.param_groups}
        for stream, p, group in compact:
            state = self.state[p]
            moments = Moments(*(state.get(name) for name in _MOMENTS))
            self._update(
                p, p.grad, moments, StepScalars(state["step"], rates[id(group)], corrected, scale, skip),
                self._betas, self._epsilon, group["weight_decay"], self._seed, stream,
            )  # fmt: skip

    def _compact(self) -> Iterator[tuple[int, nn.Parameter, dict[str, Any]]]:
        """Weights of ours that have a gradient: their number among all, themselves, their group."""
        every = ((p, group) for group in self.param_groups for p in group["params"])
        for number, (p, group) in enumerate(every):
            if p.grad is not None and self._is_compact(p):
                yield number, p, group

    def _is_compact(self, p: nn.Parameter) -> bool:
        return p.dtype == torch.bfloat16 or self._has_8bit(p)

    def _has_8bit(self, p: nn.Parameter) -> bool:
        return self._is_8bit and p.numel() >= SMALLEST_8BIT

    def _clipping(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """What gradients are multiplied by, float32 0-dim; norms of bfloat16 are summed in float32."""
        given = [gradient for gradient in gradients if gradient is not None]
        norms: list[Tensor] = []
        for dtype in {gradient.dtype: None for gradient in given}:
            of_dtype = [gradient for gradient in given if gradient.dtype == dtype]
            norms += torch._foreach_norm(of_dtype, 2, dtype=torch.float32)
        scale: Tensor = self._max_gradient_norm / (torch.linalg.vector_norm(torch.stack(norms)) + 1e-6)
        return scale.clamp(max=1.0)

    def _state_of(self, p: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[p]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
            moments = new_moments(p, is_8bit=self._has_8bit(p))
            found = zip(_MOMENTS, moments, strict=True)
            state.update({name: tensor for name, tensor in found if tensor is not None})
        return state

    def _step_fused(
        self, group: dict[str, Any], weights: Sequence[nn.Parameter], scale: Tensor, found: Tensor | None
    ) -> None:
        states = [self._state_of(p) for p in weights]
        gradients = [p.grad for p in weights if p.grad is not None]
        adamw(
            list(weights),
            list(torch._foreach_mul(gradients, scale)),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            found_inf=found,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=self._epsilon,
            maximize=False,
        )


_MOMENTS = ("exp_avg", "exp_avg_sq", "exp_avg_peaks", "exp_avg_sq_peaks")
"""Names of a weight's state, as checkpoints have them; the first two are PyTorch's."""


def _on_device(rate: float | Tensor, like: Tensor) -> Tensor:
    return rate if isinstance(rate, Tensor) else torch.full_like(like, rate)
