"""What a training with a small optimizer state leaves, and what goes on from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch

from phase8_tune.tuner.training.checkpoint import (
    Checkpoint,
    Progress,
    Tokenization,
    read_checkpoint,
    read_weights,
    write_checkpoint,
)
from phase8_tune.tuner.training.settings import to_settings
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.workloads.settings import TrainingSettings

SMALL = {"optimizer_state": "8bit", "master_weights": "bf16_sr"}


def settings(**changes: Any) -> TrainingSettings:
    return to_settings({"d_model": 512, "n_layers": 8, "n_seq": 64, "batch_size": 1} | changes, "settings")


def written(path: Path, own: TrainingSettings) -> int:
    """The format that was written."""
    tensors = {"model.weight": torch.zeros(2, dtype=torch.bfloat16)}
    kept = Checkpoint(
        settings=own, tensors=tensors, tokenizer=Tokenization(name="bytes"), progress=Progress(step=1)
    )
    write_checkpoint(path, kept)
    with safetensors.safe_open(path, framework="pt") as file:
        found: int = json.loads(file.metadata()["phase8_tune"])["format_version"]
    return found


@pytest.mark.parametrize(("key", "value"), SMALL.items())
def test_a_training_goes_on_with_the_state_that_it_has(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "kept.resume.safetensors"
    small = settings(**{key: value})
    assert written(path, small) == 5
    assert read_checkpoint(path, small).settings == small
    assert read_weights(path).settings == small
    with pytest.raises(UserInputError, match=f"{key}: expected fp32 as in the settings, got .* {value};"):
        read_checkpoint(path, settings())


def test_a_checkpoint_as_earlier_versions_read_it_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "kept.resume.safetensors"
    assert written(path, settings()) == 3
    assert written(path, settings(gradient_checkpointing=True)) == 3
    with pytest.raises(UserInputError, match="optimizer_state: expected 8bit as in the settings"):
        read_checkpoint(path, settings(optimizer_state="8bit"))
