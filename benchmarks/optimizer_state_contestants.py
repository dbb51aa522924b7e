"""Optimizers side by side: PyTorch's fused AdamW, ours, and those of torchao and bitsandbytes where they are
installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..phase8.config import Phase8Config
from ..phase8.optimizer import MasterWeights, OptimizerState
from ..phase8.training import Trainer, TrainingOptions

Groups = list[dict[str, Any]]
Make = Callable[[Groups, torch.Tensor, TrainingOptions], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """What the trainer is made with; `make` puts another optimizer in the place of its own.

    package: what is to be installed for it.
    """

    name: str
    optimizer_state: OptimizerState = "fp32"
    master_weights: MasterWeights = "fp32"
    make: Make | None = None
    package: str | None = None

    @property
    def is_installed(self) -> bool:
        try:
            return self.package is None or importlib.import_module(self.package) is not None
        except ImportError:
            return False

    def trainer(
        self, config: Phase8Config, *, device: torch.device, kernel_version: str, seed: int = 0
    ) -> Trainer:
        """A trainer with this optimizer; those that are not ours are not captured."""
        options = TrainingOptions(
            kernel_version=kernel_version,
            optimizer_state=self.optimizer_state,
            master_weights=self.master_weights,
            seed=seed,
        )
        trainer = Trainer(config, options, device=device)
        if self.make is not None:
            groups = [
                {"params": group["params"], "weight_decay": group["weight_decay"]}
                for group in trainer.optimizer.param_groups
            ]
            trainer.captures = False
            trainer.optimizer = self.make(groups, torch.tensor(1e-3, device=device), options)
        return trainer


def _torchao(groups: Groups, rate: torch.Tensor, options: TrainingOptions) -> torch.optim.Optimizer:
    """With the rate on the device: a number would be compiled into its step."""
    optimizer: torch.optim.Optimizer = importlib.import_module("torchao.optim").AdamW8bit(
        groups, lr=rate, betas=options.betas, bf16_stochastic_round=options.master_weights == "bf16_sr"
    )
    return optimizer


def _bitsandbytes(groups: Groups, rate: torch.Tensor, options: TrainingOptions) -> torch.optim.Optimizer:
    """Which takes a rate of the host alone."""
    optimizer: torch.optim.Optimizer = importlib.import_module("bitsandbytes.optim").AdamW8bit(
        groups, lr=float(rate), betas=options.betas
    )
    return optimizer


EXACT = Contestant(name="torch fused, float32")
CONTESTANTS = (
    EXACT,
    Contestant(name="ours, 8 bits", optimizer_state="8bit"),
    Contestant(name="ours, bfloat16", master_weights="bf16_sr"),
    Contestant(name="ours, 8 bits and bfloat16", optimizer_state="8bit", master_weights="bf16_sr"),
    Contestant(name="torchao, 8 bits", make=_torchao, package="torchao"),
    Contestant(
        name="torchao, 8 bits and bfloat16", master_weights="bf16_sr", make=_torchao, package="torchao"
    ),
    Contestant(name="bitsandbytes, 8 bits", make=_bitsandbytes, package="bitsandbytes"),
    Contestant(
        name="bitsandbytes, 8 bits and bfloat16",
        master_weights="bf16_sr",
        make=_bitsandbytes,
        package="bitsandbytes",
    ),
)
"""bitsandbytes rounds a weight in bfloat16 to nearest: what is lost so is part of what is compared."""
