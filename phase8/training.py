"""The one training step: what the tuner measures is what `phase8-train` runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..kernels.versions import CAPTURED_VERSIONS
from .capture import EAGER_CALLS, CapturedFunction
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
        self.captures = options.kernel_version in CAPTURED_VERSIONS and device.type == "cuda"
        # A captured step reads its learning rate from the device, where `set_learning_rate` puts it.
        rate = torch.tensor(options.learning_rate, device=device) if self.captures else options.learning_rate
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": options.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=rate,
            betas=options.betas,
            fused=True,
            capturable=self.captures,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=options.mixed_precision == "fp16")
        self._captured: dict[tuple[str, torch.Size], CapturedFunction] = {}

    @property
    def setup_calls(self) -> int:
        """Calls with one shape of tokens that compile or capture something, before all are alike."""
        return EAGER_CALLS + 1 if self.captures else 1

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate

    def step(self, tokens: Tensor) -> Tensor:
        """One step on tokens [B, N + 1] int64: predict each next token. Returns the loss, a float32 scalar.

        The loss is detached and stays on the device: reading it is what synchronises. Versions in
        CAPTURED_VERSIONS are captured in a CUDA graph after their first calls with a shape.
        """
        return self._run("step", self._step, tokens)

    def evaluate(self, tokens: Tensor) -> Tensor:
        """The loss on tokens [B, N + 1] int64 without training, a float32 scalar on the device."""
        return self._run("evaluate", self._evaluate, tokens)

    def _run(self, name: str, function: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        if not self.captures:
            return function(tokens)
        key = (name, tokens.shape)
        if key not in self._captured:
            self._captured[key] = CapturedFunction(function)
        return self._captured[key](tokens)

    def _step(self, tokens: Tensor) -> Tensor:
        loss: Tensor = self.model(tokens[:, :-1], tokens[:, 1:])
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    @torch.no_grad()
    def _evaluate(self, tokens: Tensor) -> Tensor:
        loss: Tensor = self.model(tokens[:, :-1], tokens[:, 1:])
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            # Only the moments: rates and flags belong to this run's options, not to the checkpoint.
            "optimizer": self.optimizer.state_dict()["state"],
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        self._captured.clear()  # captures hold the addresses of the state that was replaced
        self.scaler.load_state_dict(state["scaler"])
