"""A session of `phase8-train`: what was asked is checked first, cheapest first, then trained and saved."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...kernels.versions import UnsupportedVersionError
from ..machine.cache_folder import cache_folder, compiler_caches
from ..machine.lock import LockedError, ProcessLock
from ..machine.process_memory import process_peak_bytes
from ..values.errors import DeviceError, InterruptedStudyError, UserInputError
from ..values.interrupt import interrupt_deferred
from ..values.sizes import format_mb
from ..workloads.settings import TrainingSettings
from .curve import draw_curve
from .metrics import read_metrics
from .places import curve_path, drafts, lock_path, metrics_path, resume_path
from .room import budget_of, check_disk, check_host_memory, largest_batch, promised_peak_bytes, staying_bytes
from .schedule import Schedule
from .settings import load_settings
from .sources import check_text, find_sources
from .tokenizer import Tokenizer, load_tokenizer
from .tokens import Tokens, check_vocabulary, open_tokens, split

if TYPE_CHECKING:
    from .card import HeldCard
    from .loop import Training

_REFUSED = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the user asked for, as the options of `phase8-train` say it; None: the default."""

    settings_file: Path
    output: Path
    data: Sequence[str]
    field: str
    force: bool
    tokenizer: str
    steps: int
    max_time_s: float | None
    tokens_per_update: int | None
    learning_rate: float
    warmup: int | None
    evaluate_every: int
    save_every: int
    log_every: int
    device: str
    vram_bytes: int | None
    reserve_bytes: int | None
    resume: bool
    seed: int | None
    tensorboard: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionResult:
    """What came of a session. tokens_per_s: of the steady steps; peak_bytes: all that the process had of the
    card at its peak, of its own memory on a CPU; each None where it is not known."""

    step: int
    tokens_per_s: float | None
    held_out_loss: float | None
    peak_bytes: int | None
    reserved_bytes: int | None


def run_session(request: Request) -> SessionResult | None:
    """Train as asked, and say what came of it; None where all steps were done already.

    Raises: UserInputError, DeviceError, DivergedError, InterruptedStudyError; a checkpoint is kept.
    """
    settings = load_settings(request.settings_file)
    if request.output.suffix != ".safetensors":
        name = request.output.with_suffix(".safetensors")
        raise UserInputError(
            f"--output: expected a name that ends in .safetensors, got {request.output}; with --output "
            f"{shlex.quote(str(name))} a checkpoint in {request.output.with_suffix('.pt')} is gone on with"
        )
    sources = find_sources(request.data)
    for source in sources:
        check_text(source, force=request.force)
    tokenizer = load_tokenizer(request.tokenizer)
    check_disk(request.output, settings.parameter_count())
    with _alone_at(request.output):
        tokens = open_tokens(
            sources,
            tokenizer,
            field=request.field,
            force=request.force,
            cache=cache_folder(),
            on_progress=_Tokenizing(),
        )
        return _train(request, settings, tokenizer, tokens)


class _Tokenizing:
    """Tells now and then how far the text is tokenised."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, done: int, total: int) -> None:
        share = done / total if total else 1.0
        if share - self._told >= 0.1 and total > 1 << 24:
            self._told = share
            click.echo(f"tokenised {share:.0%}", err=True)


@contextmanager
def _alone_at(output: Path) -> Iterator[None]:
    """Only one training writes to an output at a time.

    Raises: UserInputError where another process does.
    """
    path = lock_path(output)
    try:
        lock = ProcessLock.take(path)
    except LockedError as error:
        raise UserInputError(
            f"--output {output}: expected to be the only training that writes there, got process "
            f"{error.owner}; wait for it, stop it, or choose another --output"
        ) from None
    except OSError as error:
        raise UserInputError(
            f"--output: expected a folder that can be written, got {path.parent}: {error.strerror}; "
            "choose another"
        ) from None
    try:
        for draft in drafts(output):
            with suppress(OSError):
                draft.unlink()
        yield
    finally:
        lock.close(remove=True)


def _train(
    request: Request, settings: TrainingSettings, tokenizer: Tokenizer, tokens: Tokens
) -> SessionResult | None:
    training_tokens, held_out = split(tokens, settings.n_seq)

    notes = (
        tokens.note,
        check_vocabulary(tokens.array, tokenizer, settings.vocab_size, settings.parameter_count),
    )
    for note in notes:
        if note is not None:
            click.echo(note)
    on_gpu = _uses_gpu(request.device)
    if not on_gpu:
        settings, note = settings.for_cpu()
        if note is not None:
            click.echo(note)
        check_host_memory(settings)
    from .assembly import assemble, find_start
    from .checkpoint import Tokenization
    from .resuming import Asked, complete_weights

    parts = _parts(request, settings)
    asked = Asked(
        settings=settings,
        output=request.output,
        schedule=Schedule.of(request.learning_rate, request.steps, request.warmup),
        seed=request.seed,
        parts=parts,
        tokenizer=Tokenization(name=tokenizer.name, json=tokenizer.to_json()),
        tokens_digest=tokens.digest,
    )
    start = find_start(request, asked)
    if start is None:
        complete_weights(request.output, settings)
        return None
    card: HeldCard | None = None
    try:
        card = _hold_card(request, settings, parts) if on_gpu else None
        with ExitStack() as stack:
            training = assemble(request, asked, start, training_tokens, held_out, card, stack)
            ending = training.run()
            result = _result(training)
    except UnsupportedVersionError as error:
        raise UserInputError(str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if not _ran_out_of_memory(error):
            raise
        raise DeviceError(_out_of_memory(settings, card, parts)) from error
    _conclude(request, training)
    if ending == "interrupted":
        raise InterruptedStudyError(
            f"interrupted at step {training.step}; saved {resume_path(request.output)}: "
            "run the same command to go on"
        )
    return result


def _result(training: Training) -> SessionResult:
    on_card = training.card
    return SessionResult(
        step=training.step,
        tokens_per_s=training.tokens_per_s,
        held_out_loss=training.held_out_loss,
        peak_bytes=process_peak_bytes() if on_card is None else on_card.peak_bytes(),
        reserved_bytes=None if on_card is None else on_card.reserved_peak_bytes(),
    )


def _uses_gpu(choice: str) -> bool:
    if choice == "cpu":
        return False
    os.environ.update(compiler_caches())  # before Triton reads them
    import torch  # from here on: everything cheaper was checked before

    if choice == "cuda" and not torch.cuda.is_available():
        raise UserInputError(
            "--device: expected an NVIDIA GPU that PyTorch can use for 'cuda', found none; use --device "
            "cpu, or see what `phase8-tune doctor` says"
        )
    return torch.cuda.is_available()


def _parts(request: Request, settings: TrainingSettings) -> int:
    """Batches an update, so that it has at least the tokens asked for; without, those of the settings."""
    tokens = settings.batch_size * settings.n_seq
    if request.tokens_per_update is None:
        parts = settings.gradient_accumulation
        if parts == 1:
            return parts
    else:
        parts = -(-request.tokens_per_update // tokens)
    more_bytes = staying_bytes(settings, parts) if settings.measured or settings.predicted else 0
    click.echo(
        f"{parts} batches of {tokens:,} tokens an update: {parts * tokens:,} tokens"
        + (f"; takes up to {format_mb(more_bytes)} MB more than the settings say" if more_bytes else "")
    )
    return parts


def _conclude(request: Request, training: Training) -> None:
    """Say what came of it, and draw the curve."""
    click.echo(
        f"{training.step} of {request.steps} steps are done; {resume_path(request.output)} goes on from there"
    )
    rate = training.tokens_per_s
    if rate is not None:
        click.echo(f"{rate:,.0f} tokens/s over the steady steps")
    if training.held_out_loss is not None:
        click.echo(f"held-out loss {training.held_out_loss:.4f}; weights {request.output}")
    if training.metrics_problem is not None:
        click.echo(training.metrics_problem, err=True)
        return
    curve = curve_path(request.output)
    try:
        with interrupt_deferred():  # of an interrupt in its midst matplotlib makes other errors
            draw_curve(read_metrics(metrics_path(request.output)), request.output.stem, curve)
    except OSError as error:
        click.echo(f"{curve}: cannot be written ({error.strerror})", err=True)


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether an allocation was refused; inside a graph capture only the cause of the error says so."""
    while error is not None:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in _REFUSED):
            return True
        error = error.__cause__ or error.__context__
    return False


def _hold_card(request: Request, settings: TrainingSettings, parts: int) -> HeldCard:
    from .card import HeldCard

    card = HeldCard(
        budget_of(request.vram_bytes, settings), request.reserve_bytes, promised_peak_bytes(settings, parts)
    )
    if card.note is not None:
        click.echo(card.note)
    return card


def _out_of_memory(settings: TrainingSettings, card: HeldCard | None, parts: int) -> str:
    where, largest = "the CPU", None
    if card is not None:
        where = "the GPU"
        as_trained = settings.model_copy(update={"gradient_accumulation": parts})
        largest = largest_batch(as_trained, card.budget_bytes - card.reserve_bytes, card.name)
    told = f"; the largest that is predicted to fit is {largest}" if largest is not None else ""
    return (
        f"out of memory on {where} at batch_size {settings.batch_size} × {settings.n_seq}{told}; lower "
        "batch_size in the settings, or close other programs"
    )
