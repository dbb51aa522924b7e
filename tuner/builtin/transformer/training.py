"""One training step of the built-in transformer, as a factory that is run and traced like a user's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...workloads.training import Build, Training
from ..checked_axes import checked_axes
from ..drawn_tokens import token_drawer
from .losses import loss_named
from .model import Transformer
from .spec import SPEC, config_of

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "none": None}
_BETAS = (0.9, 0.95)  # and the decay: as Phase 8 is trained, so that the two are compared alike
_WEIGHT_DECAY = 0.1
_LEARNING_RATE = 1e-3


def build(build: Build) -> Training:
    """The model, its fused AdamW and batches of tokens int64 [B, n_seq + 1].

    Raises: ValueError, naming the setting that cannot be; RuntimeError for a loss that is not installed.
    """
    axes = checked_axes(SPEC, build.axes)
    config, loss_name = config_of(build.model, axes), axes.text("loss")
    token_loss = loss_named(loss_name)
    torch.manual_seed(build.seed)
    with build.device:
        model = Transformer(config, gradient_checkpointing=axes.flag("gradient_checkpointing"))

    # Of the losses only the dense one gains by it: the others are loops, or kernels of their own
    is_compiled, is_dense = axes.text("kernel_version") == "compiled", loss_name == "dense"
    trunk = torch.compile(model, dynamic=False) if is_compiled and not is_dense else model

    def loss(tokens: Tensor) -> Tensor:
        hidden = trunk(tokens[:, :-1])
        return token_loss(hidden.flatten(0, 1), model.head, tokens[:, 1:].flatten())

    return Training(
        modules=[model],
        batch=token_drawer(build.batch_size, config.n_seq + 1, config.vocab_size, build.seed, build.device),
        optimizers=[adamw(model)],
        loss=torch.compile(loss, dynamic=False) if is_compiled and is_dense else loss,
        autocast=_AUTOCAST[axes.text("mixed_precision")],
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
