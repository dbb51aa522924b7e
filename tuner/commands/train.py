"""`phase8-train`: trains the model of a settings file on a text, with the step that the tuner measured."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    import torch

    from ...phase8.training import Trainer
    from ..training.settings import TrainingSettings

INPUT_ERROR, DEVICE_ERROR, INTERRUPTED = 2, 4, 130


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("settings_file", type=click.Path(path_type=Path), metavar="FILE.yaml")
@click.option("--data", "data_file", type=click.Path(path_type=Path), required=True, help="Text to train on.")
@click.option("--tokenizer", type=click.Choice(["bytes", "gpt2"]), default="bytes", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps in total.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Checkpoint to write and resume. [FILE.pt]")
@click.option("--save-every", type=click.IntRange(min=1), default=500, show_default=True, help="In steps.")
@click.option("--log-every", type=click.IntRange(min=1), default=10, show_default=True, help="In steps.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def main(
    settings_file: Path,
    data_file: Path,
    tokenizer: str,
    steps: int,
    learning_rate: float,
    device: str,
    output: Path | None,
    save_every: int,
    log_every: int,
    seed: int,
) -> None:
    """Train the model of FILE.yaml on a text; an existing checkpoint is resumed."""
    from ..training.settings import SettingsError, load_settings

    try:
        settings = load_settings(settings_file)
    except SettingsError as error:
        _fail(str(error), INPUT_ERROR)
    import torch

    from ...kernels.versions import UnsupportedVersionError
    from ...phase8.training import Trainer, TrainingOptions
    from ..training.checkpoint import CheckpointError
    from ..training.data import DataError

    if device == "cuda" and not torch.cuda.is_available():
        _fail("--device cuda: no CUDA GPU is visible to PyTorch; use --device cpu or auto", INPUT_ERROR)
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if where.type == "cpu" and settings.triton_kernel_version != "reference":
        click.echo(
            f"the {settings.triton_kernel_version} kernels need a GPU: trains on this CPU with the reference "
            "kernels, which compute the same"
        )
        settings = settings.model_copy(
            update={"use_triton_kernel": False, "triton_kernel_version": "reference"}
        )
    options = TrainingOptions(
        kernel_version=settings.triton_kernel_version,
        gradient_checkpointing=settings.gradient_checkpointing,
        mixed_precision=settings.mixed_precision,
        learning_rate=learning_rate,
        seed=seed,
    )
    checkpoint = output or settings_file.with_suffix(".pt")
    try:
        trainer = Trainer(settings.to_config(), options, device=where)
        _train(trainer, settings, data_file, tokenizer, steps, checkpoint, save_every, log_every, seed)
    except (DataError, CheckpointError, UnsupportedVersionError) as error:
        _fail(str(error), INPUT_ERROR)
    except RuntimeError as error:
        if not _ran_out_of_memory(error):
            raise
        _fail(
            f"out of memory on {where} at batch {settings.batch_size} × {settings.n_seq}; close other "
            "programs, or lower batch_size in the settings",
            DEVICE_ERROR,
        )


def _train(
    trainer: Trainer,
    settings: TrainingSettings,
    data_file: Path,
    tokenizer: str,
    steps: int,
    checkpoint: Path,
    save_every: int,
    log_every: int,
    seed: int,
) -> None:
    from ..training.checkpoint import load_checkpoint, save_checkpoint
    from ..training.data import (
        DataError,
        WindowSampler,
        load_tokens,
        split_tokens,
        unigram_entropy,
        warmup_factor,
    )

    tokens = load_tokens(data_file, "gpt2" if tokenizer == "gpt2" else "bytes")
    if len(tokens) and int(tokens.max()) >= settings.vocab_size:
        raise DataError(f"--data: token {int(tokens.max())} is outside vocab_size={settings.vocab_size}")
    training, held_out = split_tokens(tokens, settings.n_seq)
    sampler = WindowSampler(training, batch_size=settings.batch_size, n_seq=settings.n_seq, seed=seed)
    start = 0
    if checkpoint.exists():
        start = load_checkpoint(checkpoint, trainer=trainer, sampler=sampler, settings=settings)
        click.echo(f"resumed {checkpoint} at step {start}")
    click.echo(
        f"{settings.model}: {settings.to_config().parameter_count():,} parameters on {trainer.device.type}, "
        f"{settings.batch_size} × {settings.n_seq} tokens a step, {settings.triton_kernel_version} kernels; "
        f"{len(training):,} tokens to train on (unigram entropy {unigram_entropy(training):.3f})"
    )
    base_rate = trainer.options.learning_rate
    warmup = min(100, max(steps // 10, 1))
    done, clock, since = start, time.perf_counter(), start
    try:
        while done < steps:
            trainer.set_learning_rate(base_rate * warmup_factor(done, warmup, steps))
            loss = trainer.step(sampler.batch().to(trainer.device))
            done += 1
            if done % log_every == 0 or done == steps:
                value = float(loss)  # synchronises, so that the clock covers finished work
                now = time.perf_counter()
                rate = (done - since) * settings.batch_size * settings.n_seq / (now - clock)
                click.echo(f"step {done}/{steps}  loss {value:.4f}  {rate:,.0f} tokens/s")
                clock, since = now, done
            if done % save_every == 0:
                save_checkpoint(checkpoint, trainer=trainer, sampler=sampler, settings=settings, step=done)
    except KeyboardInterrupt:
        save_checkpoint(checkpoint, trainer=trainer, sampler=sampler, settings=settings, step=done)
        _fail(f"interrupted at step {done}; saved {checkpoint}, run the same command to go on", INTERRUPTED)
    if done > start and done % save_every:
        save_checkpoint(checkpoint, trainer=trainer, sampler=sampler, settings=settings, step=done)
    click.echo(f"held-out loss {_held_out_loss(trainer, held_out, settings):.4f}; checkpoint {checkpoint}")


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether an allocation was refused; inside a graph capture only the cause of the error says so."""
    while error is not None:
        if "out of memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _held_out_loss(trainer: Trainer, tokens: torch.Tensor, settings: TrainingSettings) -> float:
    """Mean loss over the first windows of the held-out tail that fill one batch."""
    count = min(settings.batch_size, len(tokens) // (settings.n_seq + 1))
    batch = tokens[: count * (settings.n_seq + 1)].view(count, -1)
    return float(trainer.evaluate(batch.to(trainer.device)))


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"phase8-train: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
