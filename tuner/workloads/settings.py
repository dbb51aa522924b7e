"""A settings file, whatever its workload: what all have, and what a workload that can be trained has to say.

Strict, and free of torch. The class of a workload's settings is found by name (`WorkloadSpec.settings`).
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ..values.axes import flag_as_word, word_as_flag
from ..values.candidate import CHECKPOINTING_FLAGS, Candidate, Checkpointing, Precision
from ..values.measurement import Border
from ..values.workload_spec import SPECS, known_spec

if TYPE_CHECKING:
    import torch

    from .trainer import Generator, Trainer


LATER_FORMAT: Final = 4
"""Of settings files, and written where they say what earlier versions do not know."""
_Checkpointing = Annotated[
    Checkpointing,
    BeforeValidator(lambda value: flag_as_word(value, CHECKPOINTING_FLAGS)),
    PlainSerializer(lambda word: word_as_flag(word, CHECKPOINTING_FLAGS)),
]
"""In files `none` and `full` are false and true, as earlier versions wrote and read them."""


class Measured(Border):
    """Where a recommendation comes from: one record, named by its digest. Checked by type only."""

    mean_tokens_per_s: float
    std_tokens_per_s: float
    samples: int
    peak_bytes: int
    peak_source: str
    device: str
    device_kind: Literal["cuda", "cpu"]
    versions: dict[str, str | None]
    mode: Literal["train", "forward"]
    budget_bytes: int
    digest: str


class Predicted(Border):
    """Where a recommendation comes from that nobody measured: one recorded prediction, named by its digest.

    tokens_per_s lies in its interval nine times of ten; the peak lies within `margin`, and `peak_bytes_high`
    is the peak with it. ledger: bytes by line. Checked by type only.
    """

    tokens_per_s: float
    tokens_per_s_low: float
    tokens_per_s_high: float
    limited_by: str
    peak_bytes: int
    peak_bytes_high: int
    peak_source: str
    margin: float
    fits: bool
    spare_bytes: int
    ledger: dict[str, int]
    device: str
    device_kind: Literal["predicted"]
    versions: dict[str, str | None]
    mode: Literal["train", "forward"]
    budget_bytes: int
    digest: str


class Verified(Border):
    """What `phase8-tune verify --write` found in processes of their own. Checked by type only."""

    tokens_per_s: float
    peak_bytes: int
    peak_source: str
    held: bool
    device: str
    device_kind: Literal["cuda", "cpu"]
    versions: dict[str, str | None]
    steps: int
    steady_s: float


class TrainingSettings(Border, ABC):
    """All that is needed to train with a recommended configuration: what every workload's file has.

    file_order: of all keys in a file; it begins with d_model, n_layers, n_seq and batch_size. shape_keys:
    those of which the shapes of weights and optimizer state follow, which a checkpoint has to share.
    may_differ: those that may be others when a training goes on. later_keys: with their defaults, those that
    readers of format 3 do not know; written where they are set.

    Raises: pydantic.ValidationError for a key or a combination that is not understood.
    """

    file_order: ClassVar[tuple[str, ...]]
    shape_keys: ClassVar[tuple[str, ...]]
    may_differ: ClassVar[tuple[str, ...]]
    later_keys: ClassVar[Mapping[str, object]] = {"gradient_accumulation": 1}

    d_model: PositiveInt
    n_layers: PositiveInt
    n_seq: PositiveInt
    batch_size: PositiveInt
    format_version: int
    workload: str
    model: str = Field(default="custom", min_length=1)
    vocab_size: PositiveInt = 50257
    gradient_checkpointing: _Checkpointing = "none"
    gradient_accumulation: PositiveInt = 1
    mixed_precision: Precision = "none"
    measured: Measured | None = None
    predicted: Predicted | None = None
    verified: Verified | None = None

    @property
    def is_later(self) -> bool:
        """Whether they say what readers of format 3 do not know."""
        is_set = any(getattr(self, name) != default for name, default in self.later_keys.items())
        return is_set or self.gradient_checkpointing not in CHECKPOINTING_FLAGS

    @model_validator(mode="after")
    def _say_format(self) -> Self:
        if self.is_later:
            object.__setattr__(self, "format_version", LATER_FORMAT)
        return self

    @model_serializer(mode="wrap")
    def _in_order(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        left_out = [name for name, default in self.later_keys.items() if getattr(self, name) == default]
        return {name: found[name] for name in self.file_order if name in found and name not in left_out}

    @classmethod
    @abstractmethod
    def of_candidate(
        cls, candidate: Candidate, *, measured: Measured | None, predicted: Predicted | None
    ) -> Self:
        """What trains a candidate, and what it promises.

        Raises: ValueError, naming the field, for a model that is none.
        """

    @abstractmethod
    def to_config(self) -> Any:
        """The model's configuration, as its workload has it.

        Raises: ValueError, naming the field, for a shape that cannot be built.
        """

    @abstractmethod
    def to_candidate(self) -> Candidate | None:
        """What the tuner would call this training; None for a model that it has no name for."""

    @abstractmethod
    def parameter_count(self, vocab_size: int | None = None) -> int:
        """Learned scalars; with another vocabulary where one is given."""

    def gradient_bytes(self) -> int:
        """What gradients take that stay from one batch to the next: of the weights' type."""
        return 4 * self.parameter_count()

    @property
    @abstractmethod
    def computed_with(self) -> str:
        """Which implementation computes it, in a few words: `fast kernels`."""

    @abstractmethod
    def for_cpu(self) -> tuple[Self, str | None]:
        """The settings with which a CPU computes the same, and a line that says what is other than here."""

    @abstractmethod
    def activation_bytes(self) -> tuple[int, int]:
        """What a step on a CPU keeps between its forward and backward pass: certainly more than the first,
        and less than the second."""

    @abstractmethod
    def make_trainer(self, *, seed: int, learning_rate: float, device: torch.device) -> Trainer:
        """The model with its optimizer and the step that was measured, on a device. Loads torch.

        Raises: UnsupportedVersionError for kernels that do not take the model; RuntimeError (torch's).
        """

    @abstractmethod
    def make_generator(self, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Generator:
        """The model with these weights, to continue texts: in the precision it was trained for on a GPU, in
        float32 on a CPU. Loads torch.

        Raises: RuntimeError (torch's) where the tensors are not those of the settings.
        """


def settings_class(workload: str) -> type[TrainingSettings] | None:
    """How the settings of a workload are read and written; None for one that has no settings files."""
    spec = known_spec(workload)
    module, _, name = (spec.settings or "" if spec is not None else "").partition(":")
    if not module:
        return None
    found: type[TrainingSettings] = getattr(importlib.import_module(module), name)
    return found


def trained_workloads() -> list[str]:
    """The workloads that have settings files."""
    return [name for name in SPECS if settings_class(name) is not None]
