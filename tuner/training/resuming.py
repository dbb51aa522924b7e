"""Going on from a checkpoint: what must agree with it, what may differ and is said, and which wins."""

from __future__ import annotations

from pathlib import Path

import torch

from ..values.errors import UserInputError
from .checkpoint import Checkpoint, Progress, Tokenization, read_checkpoint, read_weights, write_weights
from .places import resume_path
from .settings import TrainingSettings

_MAY_DIFFER = ("batch_size", "triton_kernel_version", "gradient_checkpointing", "mixed_precision")


def find_checkpoint(output: Path, settings: TrainingSettings) -> Checkpoint | None:
    """What a training with this output goes on from, None where there is nothing.

    Raises: UserInputError for a checkpoint that is damaged or of a model of another shape.
    """
    for path in (resume_path(output), output.with_suffix(".pt")):
        if path.exists():
            return read_checkpoint(path, settings)
    return None


def complete_weights(output: Path, settings: TrainingSettings) -> None:
    """Write the weights of a finished training that ended between its last checkpoint and them.

    Raises: UserInputError where they cannot be written.
    """
    checkpoint = find_checkpoint(output, settings)
    if checkpoint is None:
        return
    try:
        found = read_weights(output).tensors
    except UserInputError:
        found = {}
    if not all(name in found and torch.equal(found[name], t) for name, t in checkpoint.weights().items()):
        write_weights(output, checkpoint)


def agree(
    earlier: Checkpoint,
    settings: TrainingSettings,
    *,
    steps: int,
    seed: int | None,
    tokenizer: Tokenization,
    tokens_digest: str,
) -> tuple[Progress, list[str]]:
    """The progress to go on from, and a line for each thing that is no longer as it was.

    seed: None where none was asked for.
    Raises: UserInputError where what was asked for would silently be ignored.
    """
    progress, name = earlier.progress, f"the checkpoint at step {earlier.progress.step}"
    if steps < progress.step:
        raise UserInputError(
            f"--steps: expected at least the {progress.step} that are done, got {steps}; raise it, or "
            "start anew with --no-resume"
        )
    if seed is not None and seed != progress.seed:
        raise UserInputError(
            f"--seed: expected {progress.seed} as in {name}, got {seed}, which would change nothing; leave "
            "it out, or start anew with --no-resume"
        )
    if (tokenizer.json or tokenizer.name) != (earlier.tokenizer.json or earlier.tokenizer.name):
        raise UserInputError(
            f"--tokenizer: expected {earlier.tokenizer.name} as in {name}, got {tokenizer.name}; name that "
            "one, or start anew with --no-resume"
        )
    told = []
    for key in _MAY_DIFFER:
        was, now = getattr(earlier.settings, key), getattr(settings, key)
        if was != now:
            told.append(f"{key}: {was} until now, goes on with {now}")
    if progress.tokens_digest is not None and progress.tokens_digest != tokens_digest:
        told.append("--data: another text than until now, goes on with it")
    if progress.steps is not None and progress.steps != steps:
        told.append(f"--steps: {progress.steps} until now; the learning rate now falls until step {steps}")
    return progress, told
