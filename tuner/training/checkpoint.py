"""Checkpoints of a training run: written whole or not at all, refused where they belong to other settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import torch

from ...phase8.training import Trainer
from ..values.format_versions import FORMAT_KEY, later_format
from .data import WindowSampler
from .settings import TrainingSettings

FORMAT_VERSION: Final = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or resumed: one line that says why and what to do."""


def _shape(settings: TrainingSettings) -> dict[str, Any]:
    """What must agree for the weights to fit; the rest (batch, kernels, precision) may change on resuming."""
    return settings.model_dump(
        include={"d_model", "n_layers", "n_seq", "variant", "n_heads", "htt_rank", "ar_ssm_rank"}
        | {"window", "vocab_size", "htt_dims", "low_rank_ffn"}
    )


def save_checkpoint(
    path: Path, *, trainer: Trainer, sampler: WindowSampler, settings: TrainingSettings, step: int
) -> None:
    """Write model, optimizer, sampler and step; the file appears only once it is complete.

    Raises: CheckpointError where the folder cannot be written.
    """
    state = {
        FORMAT_KEY: FORMAT_VERSION,
        "step": step,
        "shape": _shape(settings),
        "trainer": trainer.state_dict(),
        "sampler": sampler.generator.get_state(),
    }
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror}); choose another --output"
        ) from error


def load_checkpoint(
    path: Path, *, trainer: Trainer, sampler: WindowSampler, settings: TrainingSettings
) -> int:
    """Restore trainer and sampler; returns the number of steps done.

    Raises: CheckpointError where the file is damaged, belongs to a model of another shape, or is of a later
    version of this program.
    """
    try:
        state = torch.load(path, map_location=trainer.device, weights_only=True)
    except Exception as error:  # a damaged file surfaces as any of pickle's, zipfile's and torch's errors
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); remove it or set another --output"
        ) from error
    if later := later_format(state, FORMAT_VERSION):
        raise CheckpointError(f"{path}: {later}")
    if not isinstance(state, dict) or state.get("shape") != _shape(settings):
        raise CheckpointError(
            f"{path}: the checkpoint is of a model with other settings; remove it or choose another --output"
        )
    trainer.load_state_dict(state["trainer"])
    sampler.generator.set_state(state["sampler"].cpu())
    return int(state["step"])
