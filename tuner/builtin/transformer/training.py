"""One training step of the built-in transformer, as a factory that is run and traced like a user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ...values.axes import AxisValue
from ...values.candidate import Checkpointing
from ...workloads.training import Build, Training
from ..checked_axes import checked_axes
from ..drawn_tokens import token_drawer
from .config import TransformerConfig
from .losses import loss_named
from .model import Transformer
from .spec import SPEC, config_of

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "none": None}
_BETAS = (0.9, 0.95)  # with decay and clipping as Phase 8 is trained, so that the two are compared alike
_WEIGHT_DECAY = 0.1
_MAX_GRADIENT_NORM = 1.0
_LEARNING_RATE = 1e-3


def build(build: Build) -> Training:
    """The model, its fused AdamW and batches of tokens int64 [B, n_seq + 1].

    Raises: ValueError, naming the setting that cannot be; RuntimeError for a loss that is not installed.
    """
    axes = checked_axes(SPEC, build.axes)
    return training_of(
        config_of(build.model, axes), axes, build.batch_size, device=build.device, seed=build.seed
    )


def training_of(
    config: TransformerConfig,
    axes: Mapping[str, AxisValue],
    batch_size: int,
    *,
    device: torch.device,
    seed: int,
) -> Training:
    """As `build`, of a shape that need not have a name. axes: checked."""
    loss_name = axes["loss"]
    token_loss = loss_named(str(loss_name))
    torch.manual_seed(seed)
    with device:
        model = Transformer(
            config, gradient_checkpointing=cast(Checkpointing, axes["gradient_checkpointing"])
        )

    # Of the losses only the dense one gains by it: the others are loops, or kernels of their own
    is_compiled, is_dense = axes["kernel_version"] == "compiled", loss_name == "dense"
    trunk = torch.compile(model, dynamic=False) if is_compiled and not is_dense else model

    def loss(tokens: Tensor) -> Tensor:
        hidden = trunk(tokens[:, :-1])
        return token_loss(hidden.flatten(0, 1), model.head, tokens[:, 1:].flatten())

    return Training(
        modules=[model],
        batch=token_drawer(batch_size, config.n_seq + 1, config.vocab_size, seed, device),
        optimizers=[adamw(model)],
        loss=torch.compile(loss, dynamic=False) if is_compiled and is_dense else loss,
        autocast=_AUTOCAST[str(axes["mixed_precision"])],
        max_gradient_norm=_MAX_GRADIENT_NORM,
    )


def adamw(model: nn.Module, learning_rate: float = _LEARNING_RATE) -> torch.optim.AdamW:
    """Fused AdamW whose decay spares vectors: norms and biases."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": _WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=_BETAS, fused=True)
