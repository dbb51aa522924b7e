"""The axes of a study: what each may hold, as a strict border for YAML files."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from ...kernels.versions import KERNEL_VERSIONS
from ..values.candidate import DEFAULT_VOCAB_SIZE, LARGEST_VOCAB_SIZE, Mode, Precision
from ..values.measurement import Border
from ..values.nearest import one_of
from ..values.yaml_reading import UNNAMED, shown
from .model_names import read_model

DOCUMENTED_VERSIONS: tuple[str, ...] = ("reference", "v1", "v2", "fast")


def as_tuple(value: object) -> object:
    # YAML has lists, frozen values have tuples; anything else is left for pydantic to refuse.
    return tuple(value) if isinstance(value, list) else value


def _without_duplicates(values: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"expected every value once, got {shown(value)} twice")
    return values


def _known(names: Sequence[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(one_of(names, name))
        return name

    return AfterValidator(check)


T = TypeVar("T", bound=Hashable)
NonEmpty = Annotated[tuple[T, ...], BeforeValidator(as_tuple), Field(min_length=1)]
Axis = Annotated[
    tuple[T, ...], BeforeValidator(as_tuple), Field(min_length=1), AfterValidator(_without_duplicates)
]
Positive = Annotated[int, Field(gt=0)]
_Model = Annotated[str, BeforeValidator(read_model)]
Vocabulary = Annotated[int, Field(gt=0, le=LARGEST_VOCAB_SIZE)]
_Version = Annotated[str, _known(DOCUMENTED_VERSIONS)]
_Variant = Literal["phase8", "phase7"]


class Bounds(Border):
    """Every whole number from min to max, both included."""

    min: Positive = 1
    max: Positive

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"expected a min of at most max, got {self.min} and {self.max}")
        return self


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict | Bounds)


def _kind_of_batches(value: object) -> str:
    return f"{UNNAMED}bounds" if _is_mapping(value) else f"{UNNAMED}list"


_Batches = Annotated[
    Annotated[Bounds, Tag(f"{UNNAMED}bounds")] | Annotated[Axis[Positive], Tag(f"{UNNAMED}list")],
    Discriminator(_kind_of_batches),
]


class Axes(Border):
    """The values of each axis; a part of the space is their product.

    batch_size: a list of numbers, or bounds within which every whole number is allowed.
    """

    model: Axis[_Model]
    n_seq: Axis[Positive]
    batch_size: _Batches
    kernel_version: Axis[_Version]
    gradient_checkpointing: Axis[bool]
    mixed_precision: Axis[Precision]
    mode: Axis[Mode] = ("train",)
    variant: Axis[_Variant] = ("phase8",)
    vocab_size: Axis[Vocabulary] = (DEFAULT_VOCAB_SIZE,)

    @property
    def missing_versions(self) -> tuple[str, ...]:
        """Kernel versions that are named here and that this installation does not have."""
        return tuple(v for v in self.kernel_version if v not in KERNEL_VERSIONS)

    def values(self) -> dict[str, Any]:
        """Every axis with its values, without missing kernel versions; bounds as {min, max}."""
        values: dict[str, Any] = self.model_dump()
        values["kernel_version"] = tuple(v for v in self.kernel_version if v in KERNEL_VERSIONS)
        return values


def _kind_of_products(value: object) -> str:
    return f"{UNNAMED}several" if isinstance(value, list | tuple) else f"{UNNAMED}one"


Products = Annotated[
    Annotated[Axes, Tag(f"{UNNAMED}one")] | Annotated[NonEmpty[Axes], Tag(f"{UNNAMED}several")],
    Discriminator(_kind_of_products),
]
"""One product of axes, or a list of them: the space is their union."""


class Row(Border):
    """One row of a table: what it leaves out comes from `defaults`."""

    model: _Model | None = None
    n_seq: Positive | None = None
    batch_size: Positive | None = None
    kernel_version: _Version | None = None
    gradient_checkpointing: bool | None = None
    mixed_precision: Precision | None = None
    variant: _Variant | None = None
    vocab_size: Vocabulary | None = None
