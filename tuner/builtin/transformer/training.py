"""One training step of the built-in transformer, as a factory that is run and traced like a user's own."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ...workloads.training import Build, Training
from ..axis_values import AxisValues
from ..drawn_tokens import token_drawer
from .config import FAMILIES, Family, TransformerConfig, transformer_config
from .losses import loss_named
from .model import Transformer
from .spec import AXES, DEFAULTS, KERNEL_VERSIONS, LOSSES, PRECISIONS

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "none": None}
_BETAS = (0.9, 0.95)  # and the decay: as Phase 8 is trained, so that the two are compared alike
_WEIGHT_DECAY = 0.1
_LEARNING_RATE = 1e-3


def config_of(build: Build) -> TransformerConfig:
    """The shape that a build asks for. Raises: ValueError, naming the setting."""
    axes = AxisValues(build.axes, AXES)
    return transformer_config(
        build.model,
        n_seq=axes.count("n_seq", int(DEFAULTS["n_seq"])),
        vocab_size=axes.count("vocab_size", int(DEFAULTS["vocab_size"])),
        family=cast(Family, axes.choice("family", str(DEFAULTS["family"]), FAMILIES)),
        queries_per_kv=axes.count("queries_per_kv", int(DEFAULTS["queries_per_kv"])),
    )


def build(build: Build) -> Training:
    """The model, its fused AdamW and batches of tokens int64 [B, n_seq + 1].

    Raises: ValueError, naming the setting that cannot be; RuntimeError for a loss that is not installed.
    """
    config, axes = config_of(build), AxisValues(build.axes, AXES)
    precision = axes.choice("mixed_precision", str(DEFAULTS["mixed_precision"]), PRECISIONS)
    version = axes.choice("kernel_version", str(DEFAULTS["kernel_version"]), KERNEL_VERSIONS)
    loss_name = axes.choice("loss", str(DEFAULTS["loss"]), LOSSES)
    token_loss = loss_named(loss_name)
    torch.manual_seed(build.seed)
    with build.device:
        checkpointing = axes.flag("gradient_checkpointing", bool(DEFAULTS["gradient_checkpointing"]))
        model = Transformer(config, gradient_checkpointing=checkpointing)

    # Of the losses only the dense one gains by it: the others are loops, or kernels of their own
    is_compiled, is_dense = version == "compiled", loss_name == "dense"
    trunk = torch.compile(model, dynamic=False) if is_compiled and not is_dense else model

    def loss(tokens: Tensor) -> Tensor:
        hidden = trunk(tokens[:, :-1])
        return token_loss(hidden.flatten(0, 1), model.head, tokens[:, 1:].flatten())

    return Training(
        modules=[model],
        batch=token_drawer(build.batch_size, config.n_seq + 1, config.vocab_size, build.seed, build.device),
        optimizers=[adamw(model)],
        loss=torch.compile(loss, dynamic=False) if is_compiled and is_dense else loss,
        autocast=_AUTOCAST[precision],
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
