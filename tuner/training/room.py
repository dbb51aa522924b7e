"""Whether a training has room, seen before its first step: on the disk, and in the computer's memory."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..machine.environment import host_memory_bytes
from ..predict.prediction import Predictor
from ..predict.rate.calibration import known_profile
from ..predict.rate.profiles import DEFAULT_PROFILE, gpu_profile
from ..predict.store import PredictionStore
from ..values.errors import Phase8TuneError, UserInputError
from ..values.sizes import format_mb
from ..workloads.settings import TrainingSettings

PEAK_TOLERANCE = 0.005
"""Of a measured peak memory, by which another training of the same settings may exceed it."""
STATE_BYTES = 12
"""Of a parameter in a checkpoint: the weight and its two moments, float32 each."""


def budget_of(vram_bytes: int | None, settings: TrainingSettings) -> int | None:
    """What the process may take of the card: what was asked for, or what the settings were found under."""
    origin = settings.measured or settings.predicted
    return vram_bytes or (None if origin is None or origin.device_kind == "cpu" else origin.budget_bytes)


def promised_peak_bytes(settings: TrainingSettings, parts: int) -> int:
    """The peak that the settings were found to have on a card, with what may differ; 0 where none is told.

    parts: batches an update.
    """
    if settings.predicted is not None:
        return settings.predicted.peak_bytes_high + staying_bytes(settings, parts)
    if settings.measured is None or settings.measured.device_kind == "cpu":
        return 0
    return int(settings.measured.peak_bytes * (1 + PEAK_TOLERANCE)) + staying_bytes(settings, parts)


def staying_bytes(settings: TrainingSettings, parts: int) -> int:
    """What a training may take beside what its settings were found to: gradients that stay between batches,
    where they were found without.

    parts: batches an update.
    """
    return settings.gradient_bytes() if parts > 1 and settings.gradient_accumulation == 1 else 0


def check_disk(output: Path, parameters: int) -> None:
    """See that a checkpoint has room beside the one before it.

    Raises: UserInputError, one line, where it has not, or the folder cannot be made.
    """
    folder = output.absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserInputError(
            f"--output: expected a folder that can be written, got {folder}: {error.strerror}; choose another"
        ) from None
    needed_bytes = STATE_BYTES * parameters
    if free_bytes < needed_bytes:
        raise UserInputError(
            f"--output: expected {format_mb(needed_bytes)} MB of room for a checkpoint in {folder}, found "
            f"{format_mb(free_bytes)} MB; make room, or choose another --output"
        )


def check_host_memory(settings: TrainingSettings, available_bytes: int | None = None) -> None:
    """See that a step on the CPU fits into the computer's memory, which ends a process that takes too much.

    Raises: UserInputError, one line, with the largest batch that would fit.
    """
    available = host_memory_bytes() if available_bytes is None else available_bytes
    least_bytes, most_bytes = settings.activation_bytes()
    if most_bytes < available // 2:
        return
    largest = largest_batch(settings, available)
    if largest is None and least_bytes > available:
        largest = available * settings.batch_size // least_bytes
    if largest is not None and settings.batch_size > largest:
        raise UserInputError(
            f"batch_size: expected at most {largest} at n_seq {settings.n_seq} for this computer's "
            f"{format_mb(available)} MB of memory, got {settings.batch_size}; lower it in the settings"
        )


def largest_batch(settings: TrainingSettings, budget_bytes: int, card: str | None = None) -> int | None:
    """The largest batch that is predicted to fit, all else as in the settings; None where none can be told.

    card: the GPU's name; None for the CPU, whose tensors are those of a card.
    """
    candidate = settings.to_candidate()
    if candidate is None:
        return None
    profile = gpu_profile(DEFAULT_PROFILE) if card is None else known_profile(card)
    if profile is None:
        return None
    if card is None:  # a computer may have more memory than the card whose operations are followed
        profile = profile.model_copy(update={"capacity_bytes": max(profile.capacity_bytes, budget_bytes)})
    try:
        with PredictionStore(processes=1) as store:
            return Predictor(profile=profile, store=store).largest_batch(candidate, budget_bytes)
    except Phase8TuneError:  # the budget leaves nothing beside the card's context
        return 0
