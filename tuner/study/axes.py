"""The axes of a study: what each may hold, as a strict border for YAML files, made from a workload's spec."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    create_model,
    model_validator,
)

from ..values.axes import Axis as SpecAxis
from ..values.candidate import Mode
from ..values.measurement import Border
from ..values.nearest import one_of
from ..values.workload_spec import WorkloadSpec
from ..values.yaml_reading import UNNAMED, shown


def as_tuple(value: object) -> object:
    # YAML has lists, frozen values have tuples; anything else is left for pydantic to refuse.
    return tuple(value) if isinstance(value, list) else value


def _without_duplicates(values: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"expected every value once, got {shown(value)} twice")
    return values


def _known(names: Sequence[object]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(one_of(map(str, names), name))
        return name

    return AfterValidator(check)


T = TypeVar("T", bound=Hashable)
NonEmpty = Annotated[tuple[T, ...], BeforeValidator(as_tuple), Field(min_length=1)]
Axis = Annotated[
    tuple[T, ...], BeforeValidator(as_tuple), Field(min_length=1), AfterValidator(_without_duplicates)
]
TriedWhere = Literal["memory_limits"]
_OF_PRODUCTS = ("workload", "tried_where")
"""Keys of a product that are no axes."""
_OF_NO_ROW = ("mode", "tried_where")
Positive = Annotated[int, Field(gt=0)]


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
    """The values of each axis of one workload; a part of the space is their product.

    batch_size: a list of numbers, or bounds within which every whole number is allowed. workload: None where
    the study has one workload. tried_where: `memory_limits` for a product that is tried in a cell whose best
    is known, where memory is what limits it; None: in any case. The classes are made by `axes_class`, with a
    field for each axis.
    """

    spec: ClassVar[WorkloadSpec]
    if TYPE_CHECKING:
        model: tuple[str, ...]
        batch_size: Bounds | tuple[int, ...]
        mode: tuple[Mode, ...]
        workload: str | None
        tried_where: TriedWhere | None

    @property
    def missing_versions(self) -> tuple[str, ...]:
        """Versions that are named here and that this installation does not have."""
        spec = self.spec
        if spec.version_axis is None or spec.installed is None:
            return ()
        return tuple(v for v in getattr(self, spec.version_axis) if v not in spec.installed())

    def values(self) -> dict[str, Any]:
        """Every axis with its values, without missing versions; bounds as {min, max}."""
        values: dict[str, Any] = self.model_dump(exclude=set(_OF_PRODUCTS))
        if self.spec.version_axis is not None:
            missing = self.missing_versions
            values[self.spec.version_axis] = tuple(
                v for v in values[self.spec.version_axis] if v not in missing
            )
        return values

    def recorded(self) -> dict[str, Any]:
        """As `values`, each as digests count it."""
        axes = self.spec.by_name
        return {
            name: tuple(map(axes[name].recorded, values)) if name in axes else values
            for name, values in self.values().items()
        }


class Row(Border):
    """One row of a table: what it leaves out comes from `defaults`. Made by `row_class`, as `Axes`."""

    if TYPE_CHECKING:
        model: str | None
        batch_size: int | None
        workload: str | None


NO_ROW = Row.model_construct()
"""What rows have in common where nothing was said."""


@functools.cache
def axes_class(spec: WorkloadSpec) -> type[Axes]:
    """The border of a product of a workload's axes."""
    wanted: dict[str, Any] = {}
    may_lack: dict[str, Any] = {"mode": (Axis[Mode], ("train",))}
    for name in spec.order:
        axis = spec.by_name.get(name)
        if name == "model":
            wanted[name] = (Axis[_model(spec)], ...)  # type: ignore[misc]
        elif name == "batch_size":
            wanted[name] = (_Batches, ...)
        elif axis is not None and axis.default is None:
            wanted[name] = (Axis[kind_of(axis, spec)], ...)  # type: ignore[misc]
        elif axis is not None:
            may_lack[name] = (Axis[kind_of(axis, spec)], (axis.default,))  # type: ignore[misc]
    may_lack["workload"] = (str | None, None)
    may_lack["tried_where"] = (TriedWhere | None, None)
    made = create_model("Axes", __base__=Axes, **wanted, **may_lack)
    made.spec = spec
    return made


@functools.cache
def row_class(specs: tuple[WorkloadSpec, ...]) -> type[Row]:
    """The border of a row of a study of these workloads.

    Of several it has the fields of all, whose values are checked once a row says which workload it is of.
    """
    if len(specs) > 1:
        loose: dict[str, Any] = {name: (Any, None) for name in known_keys(specs) if name not in _OF_NO_ROW}
        return create_model("Row", __base__=Row, **loose)
    [spec] = specs
    found: dict[str, Any] = {}
    for name in axes_class(spec).model_fields:
        if name == "model":
            found[name] = (_model(spec) | None, None)
        elif name == "batch_size":
            found[name] = (Positive | None, None)
        elif name in spec.by_name:
            found[name] = (kind_of(spec.by_name[name], spec) | None, None)
    return create_model("Row", __base__=Row, **found)


def _model(spec: WorkloadSpec) -> Any:
    return Annotated[str, BeforeValidator(spec.name_model)]


def kind_of(axis: SpecAxis, spec: WorkloadSpec) -> Any:
    """The type of a value on an axis, for pydantic."""
    if axis.values and axis.name == spec.version_axis:  # names that are told apart, not a few words
        return Annotated[axis.kind, _known(axis.values)]
    if axis.values:
        return Annotated[Literal[axis.values], BeforeValidator(axis.read)]
    if axis.kind is int:
        least = None if axis.minimum is None else axis.minimum - 1
        return Annotated[int, Field(gt=least, le=axis.maximum)]
    return axis.kind


def known_keys(specs: Iterable[WorkloadSpec]) -> tuple[str, ...]:
    """The keys that a product of these workloads may have."""
    names = dict.fromkeys(name for spec in specs for name in axes_class(spec).model_fields)
    return tuple(names)
