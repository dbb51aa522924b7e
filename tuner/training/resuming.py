"""Going on from a checkpoint: what must agree with it, what may differ and is said, and which wins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..values.errors import UserInputError
from ..workloads.settings import TrainingSettings
from .checkpoint import Checkpoint, Progress, Tokenization, read_checkpoint, read_weights, write_weights
from .places import best_path, resume_path
from .schedule import Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a session is to train, as far as a checkpoint has something to say to it.

    seed: None where none was asked for. parts: batches an update. tokens_digest: which text.
    """

    settings: TrainingSettings
    output: Path
    schedule: Schedule
    seed: int | None
    parts: int
    tokenizer: Tokenization
    tokens_digest: str

    @property
    def tokens_per_update(self) -> int:
        return self.parts * self.settings.batch_size * self.settings.n_seq


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


def agree(earlier: Checkpoint, asked: Asked) -> tuple[Progress, list[str]]:
    """The progress to go on from, and a line for each thing that is no longer as it was: the new one wins.

    Raises: UserInputError where what was asked for would silently be ignored.
    """
    progress, name = earlier.progress, f"the checkpoint at step {earlier.progress.step}"
    steps = asked.schedule.steps
    if steps < progress.step:
        raise UserInputError(
            f"--steps: expected at least the {progress.step} that are done, got {steps}; raise it, or "
            "start anew with --no-resume"
        )
    if asked.seed is not None and asked.seed != progress.seed:
        raise UserInputError(
            f"--seed: expected {progress.seed} as in {name}, got {asked.seed}, which would change nothing; "
            "leave it out, or start anew with --no-resume"
        )
    now, was = asked.tokenizer, earlier.tokenizer
    if (now.json or now.name) != (was.json or was.name):
        raise UserInputError(
            f"--tokenizer: expected {was.name} as in {name}, got {now.name}; name that one, or start anew "
            "with --no-resume"
        )
    told = [
        f"{key}: {getattr(earlier.settings, key)} until now, goes on with {getattr(asked.settings, key)}"
        for key in asked.settings.may_differ
        if getattr(earlier.settings, key) != getattr(asked.settings, key)
    ]
    if progress.tokens_digest is not None and progress.tokens_digest != asked.tokens_digest:
        best = "" if progress.best_loss is None else f", and {best_path(asked.output).name} is replaced"
        told.append(
            "--data: another text than until now, goes on with it; the lowest held-out loss counts anew"
            f"{best}"
        )
        progress = replace(progress, best_loss=None)
    progress = replace(progress, tokens_digest=asked.tokens_digest)
    if _is_another_update(earlier, asked):
        told.append(
            f"--tokens-per-update: {progress.tokens_per_update:,} tokens until now, goes on with "
            f"{asked.tokens_per_update:,}"
        )
    return progress, told + _changes_of_schedule(progress, asked.schedule)


def _is_another_update(earlier: Checkpoint, asked: Asked) -> bool:
    """Whether an update has other tokens, beyond what another batch_size, told already, says by itself."""
    was, batch = earlier.progress.tokens_per_update, earlier.settings.batch_size * earlier.settings.n_seq
    if was is None or was == asked.tokens_per_update:
        return False
    return was != batch or asked.parts != 1


def _changes_of_schedule(progress: Progress, now: Schedule) -> list[str]:
    told = []
    if progress.steps is not None and progress.steps != now.steps:
        told.append(
            f"--steps: {progress.steps} until now; the learning rate now falls until step {now.steps}"
        )
    if progress.learning_rate is not None and progress.learning_rate != now.peak:
        told.append(f"--learning-rate: {progress.learning_rate:g} until now, goes on with {now.peak:g}")
    # The default follows from --steps, which is told.
    was, by_default = progress.warmup_steps, Schedule.of(now.peak, progress.steps or now.steps).warmup_steps
    is_by_default = (was, now.warmup_steps) == (by_default, Schedule.of(now.peak, now.steps).warmup_steps)
    if was is not None and was != now.warmup_steps and not is_by_default:
        told.append(f"--warmup: {was} steps until now, goes on with {now.warmup_steps}")
    return told
