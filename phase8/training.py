"""The one training step: what the tuner measures is what `phase8-train` runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .config import Phase8Config
from .model import Phase8Model, Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOptions:
    """How a model is trained; the first three are what the tuner chooses."""

    kernel_version: str = "reference"
    gradient_checkpointing: bool = False
    mixed_precision: Precision = "bf16"
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    max_gradient_norm: float = 1.0
    seed: int = 0


class Trainer:
    """A model, its optimizer and the step that trains it: forward, backward, clipping, fused AdamW.

    Master weights, gradients and optimizer state are float32; fp16 compute uses dynamic loss scaling.
    """

    def __init__(self, config: Phase8Config, options: TrainingOptions, *, device: torch.device) -> None:
        self.options = options
        self.device = device
        torch.manual_seed(options.seed)
        with device:
            self.model = Phase8Model(
                config,
                kernel_version=options.kernel_version,
                mixed_precision=options.mixed_precision,
                gradient_checkpointing=options.gradient_checkpointing,
            )
        matrices = [p for p in self.model.parameters() if p.dim() >= 2]
        vectors = [p for p in self.model.parameters() if p.dim() < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": options.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=options.learning_rate,
            betas=options.betas,
            fused=True,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=options.mixed_precision == "fp16")

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def step(self, tokens: Tensor) -> Tensor:
        """One step on tokens [B, N + 1] int64: predict each next token. Returns the loss, a float32 scalar.

        The loss is detached and stays on the device: reading it is what synchronises.
        """
        loss: Tensor = self.model(tokens[:, :-1], tokens[:, 1:])
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, tokens: Tensor) -> Tensor:
        """The loss on tokens [B, N + 1] int64 without training, a float32 scalar on the device."""
        loss: Tensor = self.model(tokens[:, :-1], tokens[:, 1:])
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
