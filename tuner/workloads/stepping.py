"""A training step of a factory's model, as it is measured and as it is traced: one way for both."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from .training import Training

SETUP_CALLS = 1
"""Steps until all are alike: optimizers make their state in the first, and what is compiled is compiled
there."""


class TrainingStepper:
    """Takes the steps of a `Training`. device: its type, "cuda" or "cpu", for autocast and the scaler.

    A step is: the loss, under autocast where that is asked for; its backward pass; the gradients clipped,
    where that is; the steps of the optimizers; gradients set to None. float16 has the loss scaled.
    """

    def __init__(self, training: Training, device: str) -> None:
        self._training, self._device = training, device
        is_scaled = training.autocast is torch.float16 and training.loss is not None
        self.scaler = torch.amp.GradScaler(device, enabled=is_scaled)

    def step(self, batch: Any) -> Tensor:
        """One training step; its loss, without its graph."""
        if self._training.step is not None:
            return self._training.step(batch).detach()
        loss = self.accumulate(batch)
        self.update()
        return loss

    def accumulate(self, batch: Any, parts: int = 1) -> Tensor:
        """The gradients of one of the equal parts of a step; the part's loss, without its graph."""
        loss = self._loss(batch)
        self.scaler.scale(loss if parts == 1 else loss / parts).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def update(self) -> None:
        """The step that the gradients say which are there."""
        training = self._training
        if training.max_gradient_norm is not None:
            for optimizer in training.optimizers:
                self.scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(self._parameters(), training.max_gradient_norm)
        for optimizer in training.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        for optimizer in training.optimizers:
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def evaluate(self, batch: Any) -> Tensor | None:
        """The loss alone, of modules that evaluate; None where a step is all that is known."""
        if self._training.loss is None:
            return None
        for module in self._training.modules:
            module.eval()
        try:
            return self._loss(batch)
        finally:
            for module in self._training.modules:
                module.train()

    def _parameters(self) -> list[torch.nn.Parameter]:
        """Of all modules, each once."""
        return list(dict.fromkeys(p for module in self._training.modules for p in module.parameters()))

    def _loss(self, batch: Any) -> Tensor:
        training = self._training
        assert training.loss is not None
        cast: Any = contextlib.nullcontext()
        if training.autocast is not None:
            cast = torch.autocast(self._device, dtype=training.autocast)
        with cast:
            return training.loss(batch)
