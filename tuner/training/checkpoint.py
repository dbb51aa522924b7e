"""Checkpoints of a training: safetensors files, written whole or not at all, which hold no code to run.

`NAME.safetensors` holds the weights, `NAME.resume.safetensors` all that going on needs. Both have the
settings and the tokenizer in their metadata, so that either can be generated from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..values.atomic_write import replaced_whole
from ..values.candidate import DEFAULT_WORKLOAD
from ..values.errors import UserInputError
from ..values.format_versions import FORMAT_KEY, later_format
from ..values.sizes import format_mb
from ..workloads.settings import TrainingSettings
from .settings import to_settings

FORMAT_VERSION: Final = 5
"""Of settings that earlier versions do not know (`TrainingSettings.is_later`)."""
_OF_OTHERS: Final = 4
_OF_PHASE8: Final = 3
"""What is written where the workload is Phase 8: earlier versions read it, and know no other workload."""
_MODEL = "model."
_ANEW = "choose another --output, or start anew with --no-resume, which replaces it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a training is, of what, and as it was asked for last; None where a checkpoint did not say.

    tokens_digest: which text; not in format 1. best_loss: the lowest held-out loss of that text so far.
    evaluated_step: the last step whose held-out loss is known. batches: how many were trained on.
    tokens_per_update: of a step; learning_rate, warmup_steps: of the schedule. These four: from format 3 on.
    """

    step: int
    seed: int = 0
    steps: int | None = None
    tokens_digest: str | None = None
    best_loss: float | None = None
    evaluated_step: int | None = None
    batches: int | None = None
    tokens_per_update: int | None = None
    learning_rate: float | None = None
    warmup_steps: int | None = None

    def first_batch(self, parts: int) -> int:
        """The number of the batch to go on with. parts: batches of a step."""
        return self.step * parts if self.batches is None else self.batches


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenization:
    """Which tokenizer the model was trained with: its name, and its file's text where it has one."""

    name: str
    json: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A model to generate from. tensors: by the names of the model's state."""

    settings: TrainingSettings
    tensors: dict[str, Tensor]
    tokenizer: Tokenization


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """All that going on needs. tensors: by the names of `Trainer.tensors`, in host memory."""

    settings: TrainingSettings
    tensors: dict[str, Tensor]
    tokenizer: Tokenization
    progress: Progress

    def weights(self) -> dict[str, Tensor]:
        """The model's, by the names of its state."""
        return _weights(self.tensors)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write all that going on needs. Takes no memory of the card: tensors are copied to the host one by one.

    Raises: UserInputError where it cannot be written; the file that was there stays as it was.
    """
    _write(path, checkpoint.tensors, checkpoint, progress=checkpoint.progress)


def write_weights(path: Path, checkpoint: Checkpoint) -> None:
    """Write the model's weights alone. Raises: as `write_checkpoint`."""
    _write(path, checkpoint.weights(), checkpoint, progress=None)


def read_weights(path: Path) -> Weights:
    """The model of a file of weights, or of all that going on needs.

    Raises: UserInputError, one line, where it is none, or of a later version of this program.
    """
    tensors, metadata = _read(path, "name a .safetensors file that phase8-train wrote")
    return Weights(
        settings=_settings(metadata, path),
        tensors=_weights(tensors) or tensors,
        tokenizer=Tokenization(**metadata["tokenizer"]),
    )


def read_checkpoint(path: Path, settings: TrainingSettings) -> Checkpoint:
    """What was written by `write_checkpoint`, or a checkpoint of format 1 (`.pt`), for these settings.

    Raises: UserInputError, one line, where it is damaged, of a model of another shape, or of a later version
    of this program.
    """
    if path.suffix == ".pt":
        return _read_format_1(path, settings)
    tensors, metadata = _read(path, _ANEW)
    written = _settings(metadata, path)
    _check_workload(written.workload, settings, path)
    _check_shape(shape_of(written), settings, path)
    if "progress" not in metadata:
        raise UserInputError(f"{path}: expected all that going on needs, got weights alone; {_ANEW}")
    return Checkpoint(
        settings=written,
        tensors=tensors,
        tokenizer=Tokenization(**metadata["tokenizer"]),
        progress=Progress(**metadata["progress"]),
    )


def shape_of(settings: TrainingSettings) -> dict[str, Any]:
    """What must agree for weights and optimizer state to fit; the rest (batch, kernels, precision) may change
    on resuming."""
    return {key: getattr(settings, key) for key in settings.shape_keys}


def _format_of(settings: TrainingSettings) -> int:
    if settings.is_later:
        return FORMAT_VERSION
    return _OF_PHASE8 if settings.workload == DEFAULT_WORKLOAD else _OF_OTHERS


def _write(
    path: Path, tensors: Mapping[str, Tensor], checkpoint: Checkpoint, *, progress: Progress | None
) -> None:
    metadata = {
        FORMAT_KEY: _format_of(checkpoint.settings),
        "settings": checkpoint.settings.model_dump(mode="json", exclude_none=True),
        "tokenizer": asdict(checkpoint.tokenizer),
    }
    if progress is not None:
        metadata["progress"] = asdict(progress)
    on_host = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    try:
        with replaced_whole(path) as draft:
            safetensors.torch.save_file(on_host, draft, metadata={"phase8_tune": json.dumps(metadata)})
    except (OSError, safetensors.SafetensorError) as error:
        size_bytes = sum(tensor.nbytes for tensor in on_host.values())
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserInputError(
            f"{path}: expected room and leave to write {format_mb(size_bytes)} MB, got: {why}; the "
            "checkpoint of before is kept: make room, or choose another --output"
        ) from error


def _read(path: Path, advice: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["phase8_tune"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserInputError(f"{path}: expected a checkpoint, but there is no such file") from None
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise UserInputError(
            f"{path}: expected a checkpoint of phase8-train, got a file that is damaged or none "
            f"({type(error).__name__}); {advice}"
        ) from error
    if later := later_format(metadata, FORMAT_VERSION):
        raise UserInputError(f"{path}: {later}")
    return tensors, metadata


def _weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_MODEL): t for name, t in tensors.items() if name.startswith(_MODEL)}


def _settings(metadata: Mapping[str, Any], path: Path) -> TrainingSettings:
    return to_settings(metadata["settings"], f"{path}: the settings inside")


def _check_workload(found: str, settings: TrainingSettings, path: Path) -> None:
    if found != settings.workload:
        raise UserInputError(
            f"{path}: workload: expected {settings.workload} as in the settings, got a checkpoint of "
            f"{found}; {_ANEW}"
        )


def _check_shape(found: Mapping[str, Any], settings: TrainingSettings, path: Path) -> None:
    expected = shape_of(settings)
    for key, value in expected.items():
        if found.get(key) != value:
            raise UserInputError(
                f"{path}: {key}: expected {value} as in the settings, got a checkpoint with "
                f"{found.get(key)}; {_ANEW}"
            )


def _read_format_1(path: Path, settings: TrainingSettings) -> Checkpoint:
    """A checkpoint as it was written before there were safetensors; read with weights_only, so no code
    runs."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file surfaces as any of pickle's, zipfile's and torch's errors
        raise UserInputError(
            f"{path}: expected a checkpoint of phase8-train, got a file that is damaged or none "
            f"({type(error).__name__}); {_ANEW}"
        ) from error
    if later := later_format(state, 1):
        raise UserInputError(f"{path}: {later}")
    if not isinstance(state, dict) or not {"shape", "step", "trainer"} <= state.keys():
        raise UserInputError(f"{path}: expected a checkpoint of phase8-train, got another file; {_ANEW}")
    _check_workload(DEFAULT_WORKLOAD, settings, path)
    _check_shape({**settings.later_keys, **state["shape"]}, settings, path)
    trainer = state["trainer"]
    tensors = {f"{_MODEL}{name}": tensor for name, tensor in trainer["model"].items()}
    # The optimizer numbered its parameters: those with two dimensions first, each kind in the model's order.
    weights = list(trainer["model"].items())
    names = [n for n, t in weights if t.dim() >= 2] + [n for n, t in weights if t.dim() < 2]
    for number, moments in trainer["optimizer"].items():
        tensors |= {f"optimizer.{kind}.{names[number]}": tensor for kind, tensor in moments.items()}
    tensors |= {f"scaler.{key}": torch.tensor(value) for key, value in trainer["scaler"].items()}
    return Checkpoint(
        settings=settings,
        tensors=tensors,
        tokenizer=Tokenization(name="bytes"),
        progress=Progress(step=int(state["step"])),
    )
