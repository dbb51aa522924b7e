"""Checkpoints of small models, and what `phase8-generate` says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from phase8_tune.phase8.model import Phase8Model
from phase8_tune.tests.exit_codes import exit_code
from phase8_tune.tuner.builtin.phase8.settings import Phase8Settings
from phase8_tune.tuner.commands.generate import main
from phase8_tune.tuner.training.checkpoint import Checkpoint, Progress, Tokenization, write_weights

SETTINGS = Phase8Settings(
    d_model=32, n_layers=2, n_seq=32, batch_size=2, n_heads=2, htt_rank=4, vocab_size=256, window=8
)


def model_of(settings: Phase8Settings, seed: int = 0) -> Phase8Model:
    """A model that is sure of what it says: an untrained one's logits are all nearly 0."""
    torch.manual_seed(seed)
    model = Phase8Model(settings.to_config())
    with torch.no_grad():
        model.embedding.core1.mul_(12)
    return model


def write(
    path: Path,
    settings: Phase8Settings = SETTINGS,
    model: Phase8Model | None = None,
    tokenizer: Tokenization | None = None,
) -> Path:
    model = model_of(settings) if model is None else model
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tokenizer = Tokenization(name="bytes") if tokenizer is None else tokenizer
    write_weights(
        path, Checkpoint(settings=settings, tensors=tensors, tokenizer=tokenizer, progress=Progress(step=1))
    )
    return path


@dataclass
class Result:
    exit_code: object
    stdout: str
    stderr: str


Run = Callable[..., Result]


def generated(
    capsys: pytest.CaptureFixture[str], path: Path, prompt: str, arguments: Sequence[object]
) -> Result:
    """The command on the CPU."""
    capsys.readouterr()
    code = exit_code(lambda: main([str(path), "--prompt", prompt, "--device", "cpu", *map(str, arguments)]))
    return Result(code, *capsys.readouterr())
