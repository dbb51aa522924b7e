"""The parts of a training put together, on the device, from a checkpoint where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import torch
from torch import Tensor

from ..workloads.trainer import Trainer, take_step
from .batches import HostBatches, PinnedBatches
from .card import HeldCard
from .checkpoint import Checkpoint, Progress
from .display import TrainingDisplay
from .loop import Training
from .metrics import MetricsLog
from .places import metrics_path
from .resuming import Asked, agree, find_checkpoint
from .tokens import unigram_entropy
from .wanted import Identity, Wanted
from .windows import Tokens, WindowSampler, held_out_batches

if TYPE_CHECKING:
    from .session import Request

_EVALUATED_BATCHES = 16  # at most, of the held-out tail


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where a session begins. earlier: the checkpoint that is gone on from, None for a training anew."""

    progress: Progress
    earlier: Checkpoint | None


def find_start(request: Request, asked: Asked) -> Start | None:
    """Where the session begins, with a line for what is no longer as it was; None where all is done.

    Raises: UserInputError for a checkpoint that does not agree.
    """
    earlier = find_checkpoint(asked.output, asked.settings) if request.resume else None
    if earlier is None:
        progress = Progress(
            step=0, seed=asked.seed or 0, tokens_digest=asked.tokens_digest, evaluated_step=0, batches=0
        )
        return Start(progress=progress, earlier=None)
    progress, told = agree(earlier, asked)
    if progress.step == request.steps and not _wanted(request, asked).is_owed(progress):
        click.echo(f"nothing to do: all {request.steps} steps are done; raise --steps to go on")
        return None
    click.echo(f"resumed at step {progress.step}")
    for line in told:
        click.echo(line)
    return Start(progress=progress, earlier=earlier)


def assemble(
    request: Request,
    asked: Asked,
    start: Start,
    training_tokens: Tokens,
    held_out: Tokens,
    card: HeldCard | None,
    stack: ExitStack,
) -> Training:
    """A training that is ready to run. card: None on a CPU. stack: closes what it opened.

    Raises: RuntimeError (torch's) for want of memory.
    """
    settings, progress = asked.settings, start.progress
    device = torch.device("cpu") if card is None else torch.device("cuda", 0)
    trainer = settings.make_trainer(seed=progress.seed, learning_rate=asked.schedule.peak, device=device)
    sampler = WindowSampler(
        training_tokens, batch_size=settings.batch_size, n_seq=settings.n_seq, seed=progress.seed
    )
    first, on_card = progress.first_batch(asked.parts), None
    batches: HostBatches | PinnedBatches = HostBatches(sampler, first=first)
    if card is not None:
        shape = (settings.batch_size, settings.n_seq + 1)
        on_card = torch.empty(shape, dtype=torch.int64, device=device)
        batches = stack.enter_context(PinnedBatches(sampler, first=first, tokens=on_card))
    if start.earlier is not None:
        tokens = torch.from_numpy(sampler.batch(first))
        _load(
            trainer,
            start.earlier.tensors,
            tokens if on_card is None else on_card.copy_(tokens),
            asked.parts,
        )
    display = TrainingDisplay(first=progress.step, steps=request.steps)
    stack.callback(display.close)
    metrics = MetricsLog(
        metrics_path(request.output), first_step=progress.step, tensorboard=request.tensorboard
    )
    stack.callback(metrics.close)
    display.tell(
        f"{settings.model}: {settings.parameter_count():,} parameters on {device.type}, "
        f"{settings.batch_size} × {settings.n_seq} tokens a batch, {settings.computed_with}; "
        f"{len(training_tokens):,} tokens to train on (unigram entropy "
        f"{unigram_entropy(training_tokens):.3f})"
    )
    return Training(
        trainer,
        batches,
        held_out_batches(
            held_out, batch_size=settings.batch_size, n_seq=settings.n_seq, limit=_EVALUATED_BATCHES
        ),
        _wanted(request, asked),
        Identity(settings=settings, tokenizer=asked.tokenizer, output=request.output),
        progress,
        display,
        metrics,
        card,
        on_card,
    )


def _wanted(request: Request, asked: Asked) -> Wanted:
    return Wanted(
        steps=request.steps,
        schedule=asked.schedule,
        log_every=request.log_every,
        evaluate_every=request.evaluate_every,
        save_every=request.save_every,
        parts=asked.parts,
        max_time_s=request.max_time_s,
    )


def _load(trainer: Trainer, tensors: Mapping[str, Tensor], tokens: Tensor, parts: int) -> None:
    """Go on from a checkpoint, after a step that is forgotten: its state lies where a new training's does."""
    take_step(trainer, lambda: tokens, parts)
    trainer.load_tensors(tensors)
