"""The parts of a training put together, on the device, from a checkpoint where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click
import torch
from torch import Tensor

from ...phase8.training import Trainer, TrainingOptions
from .batches import HostBatches, PinnedBatches
from .card import HeldCard
from .checkpoint import Progress, Tokenization
from .display import TrainingDisplay
from .loop import Identity, Training, Wanted
from .metrics import MetricsLog
from .places import metrics_path
from .resuming import agree, find_checkpoint
from .room import budget_of
from .schedule import Schedule
from .settings import TrainingSettings
from .tokenizer import Tokenizer
from .tokens import unigram_entropy
from .windows import Tokens, WindowSampler, held_out_batches

if TYPE_CHECKING:
    from .session import Request

_EVALUATED_BATCHES = 16  # at most, of the held-out tail


def assemble(
    request: Request,
    settings: TrainingSettings,
    tokenizer: Tokenizer,
    tokens_digest: str,
    training_tokens: Tokens,
    held_out: Tokens,
    parts: int,
    on_gpu: bool,
    stack: ExitStack,
) -> Training | None:
    """A training that is ready to run; None where all its steps are done. stack: closes what it opened.

    Raises: UserInputError for a checkpoint that does not agree; RuntimeError (torch's) for want of memory.
    """
    tokenization = Tokenization(name=tokenizer.name, json=tokenizer.to_json())
    earlier = find_checkpoint(request.output, settings) if request.resume else None
    progress = Progress(step=0, seed=request.seed or 0, tokens_digest=tokens_digest)
    if earlier is not None:
        progress, told = agree(
            earlier,
            settings,
            steps=request.steps,
            seed=request.seed,
            tokenizer=tokenization,
            tokens_digest=tokens_digest,
        )
        click.echo(f"resumed at step {progress.step}")
        for line in told:
            click.echo(line)
        if progress.step == request.steps:
            click.echo(f"nothing to do: all {request.steps} steps are done; raise --steps to go on")
            return None
    device = torch.device("cuda", 0) if on_gpu else torch.device("cpu")
    card = HeldCard(budget_of(request.vram_bytes, settings)) if on_gpu else None
    options = TrainingOptions(
        kernel_version=settings.triton_kernel_version,
        gradient_checkpointing=settings.gradient_checkpointing,
        mixed_precision=settings.mixed_precision,
        learning_rate=request.learning_rate,
        seed=progress.seed,
    )
    trainer = Trainer(settings.to_config(), options, device=device)
    sampler = WindowSampler(
        training_tokens, batch_size=settings.batch_size, n_seq=settings.n_seq, seed=progress.seed
    )
    first, on_card = progress.step * parts, None
    batches: HostBatches | PinnedBatches = HostBatches(sampler, first=first)
    if on_gpu:
        shape = (settings.batch_size, settings.n_seq + 1)
        on_card = torch.empty(shape, dtype=torch.int64, device=device)
        batches = stack.enter_context(PinnedBatches(sampler, first=first, tokens=on_card))
    if earlier is not None:
        tokens = torch.from_numpy(sampler.batch(first))
        _load(trainer, earlier.tensors, tokens if on_card is None else on_card.copy_(tokens), parts)
    display = TrainingDisplay(first=progress.step, steps=request.steps)
    stack.callback(display.close)
    metrics = MetricsLog(
        metrics_path(request.output), first_step=progress.step, tensorboard=request.tensorboard
    )
    stack.callback(metrics.close)
    display.tell(
        f"{settings.model}: {settings.to_config().parameter_count():,} parameters on {device.type}, "
        f"{settings.batch_size} × {settings.n_seq} tokens a batch, {settings.triton_kernel_version} kernels; "
        f"{len(training_tokens):,} tokens to train on (unigram entropy "
        f"{unigram_entropy(training_tokens):.3f})"
    )
    return Training(
        trainer,
        batches,
        held_out_batches(
            held_out, batch_size=settings.batch_size, n_seq=settings.n_seq, limit=_EVALUATED_BATCHES
        ),
        Wanted(
            steps=request.steps,
            schedule=Schedule.of(request.learning_rate, request.steps, request.warmup),
            log_every=request.log_every,
            evaluate_every=request.evaluate_every,
            save_every=request.save_every,
            parts=parts,
            max_time_s=request.max_time_s,
        ),
        Identity(settings=settings, tokenizer=tokenization, output=request.output),
        progress,
        display,
        metrics,
        card,
        on_card,
    )


def _load(trainer: Trainer, tensors: Mapping[str, Tensor], tokens: Tensor, parts: int) -> None:
    """Go on from a checkpoint, after a step that is forgotten: its state lies where a new training's does."""
    if parts == 1:
        trainer.step(tokens)
    else:
        trainer.accumulate(tokens, parts)
        trainer.update()
    trainer.load_tensors(tensors)
