"""Study definitions: what to search, how long, and how to time it; a strict border for YAML files.

A definition either spans a product of `axes` or lists `rows`, for example the rows of a published table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from ...kernels.versions import KERNEL_VERSIONS
from ...studies import packaged_studies, read_packaged
from ..values.candidate import (
    DEFAULT_VOCAB_SIZE,
    FORMAT_1_FIELDS,
    LARGEST_VOCAB_SIZE,
    Candidate,
    Mode,
    Precision,
)
from ..values.errors import UserInputError
from ..values.format_versions import identity
from ..values.measurement import Border
from ..values.nearest import nearest, one_of
from ..values.timing import FORMAT_1_TIMING, Timing
from ..values.yaml_dialect import Dumper
from ..values.yaml_reading import explain, parse_mapping, read_text_file, shown
from .model_names import read_model

DOCUMENTED_VERSIONS: tuple[str, ...] = ("reference", "v1", "v2", "fast")


def _as_tuple(value: object) -> object:
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


def _defaults(border: Border | None) -> dict[str, Any]:
    fields = {} if border is None else type(border).model_fields
    return {name: field.default for name, field in fields.items()}


T = TypeVar("T", bound=Hashable)
_List = Annotated[tuple[T, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
_Axis = Annotated[
    tuple[T, ...], BeforeValidator(_as_tuple), Field(min_length=1), AfterValidator(_without_duplicates)
]
_Model = Annotated[str, BeforeValidator(read_model)]
_Vocabulary = Annotated[int, Field(gt=0, le=LARGEST_VOCAB_SIZE)]
_Version = Annotated[str, _known(DOCUMENTED_VERSIONS)]
_Positive = Annotated[int, Field(gt=0)]
_Variant = Literal["phase8", "phase7"]


class Axes(Border):
    """The values of each axis; the space is their product."""

    model: _Axis[_Model]
    n_seq: _Axis[_Positive]
    batch_size: _Axis[_Positive]
    kernel_version: _Axis[_Version]
    gradient_checkpointing: _Axis[bool]
    mixed_precision: _Axis[Precision]
    mode: _Axis[Mode] = ("train",)
    variant: _Axis[_Variant] = ("phase8",)
    vocab_size: _Axis[_Vocabulary] = (DEFAULT_VOCAB_SIZE,)


class Row(Border):
    """One row of a table: what it leaves out comes from `defaults`."""

    model: _Model | None = None
    n_seq: _Positive | None = None
    batch_size: _Positive | None = None
    kernel_version: _Version | None = None
    gradient_checkpointing: bool | None = None
    mixed_precision: Precision | None = None
    variant: _Variant | None = None
    vocab_size: _Vocabulary | None = None


class Stall(Border):
    """Stop when the hypervolume grew by less than the share `growth` over the last `measurements`."""

    measurements: _Positive
    growth: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.001


class SearchSettings(Border):
    """How the sampler starts and when the search ends; None: no such limit.

    `trials` counts candidates launched, those of earlier sessions of the run too; `time_limit_s` is of one
    session.
    check_share: of the candidates that are predicted not to fit, those that are measured nevertheless.
    """

    trials: _Positive | None = None
    startup_trials: _Positive = 10
    seed: Annotated[int, Field(ge=0)] = 0
    time_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    stall: Stall | None = None
    check_share: Annotated[float, Field(ge=0, le=1)] = 0.005


class StudyDefinition(Border):
    """A study: `axes`, or `rows` with `defaults` and `modes`.

    Raises: ValidationError; `load_definition` and `parse_definition` turn it into one line for the user.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
    workload: Literal["phase8"] = "phase8"
    axes: Axes | None = None
    defaults: Row = Row()
    modes: _Axis[Mode] = ("train",)
    rows: _List[Row] | None = None
    search: SearchSettings = SearchSettings()
    timing: Timing = Timing()

    @model_validator(mode="after")
    def _axes_or_rows(self) -> Self:
        if (self.axes is None) == (self.rows is None):
            came = "neither" if self.axes is None else "both"
            raise ValueError(f"expected either axes or rows, got {came}")
        if self.axes is not None:
            for key in ("defaults", "modes"):
                if key in self.model_fields_set:
                    raise ValueError(f"{key}: expected only beside rows, got it beside axes")
        return self

    @property
    def missing_versions(self) -> tuple[str, ...]:
        """Kernel versions an axis names and this installation does not have: the space leaves them out."""
        named = self.axes.kernel_version if self.axes else ()
        return tuple(v for v in named if v not in KERNEL_VERSIONS)

    def axis_values(self) -> dict[str, tuple[Any, ...]]:
        """The axes as searched, without missing kernel versions; empty for a study of rows."""
        if self.axes is None:
            return {}
        values: dict[str, tuple[Any, ...]] = self.axes.model_dump()
        values["kernel_version"] = tuple(
            v for v in self.axes.kernel_version if v not in self.missing_versions
        )
        return values

    def row_candidates(self) -> tuple[Candidate, ...]:
        """The candidates of a study of rows, every row in each mode, in order; empty for a study of axes.

        Raises: ValueError, naming the row, where a key is given neither there nor in `defaults`, or a
        candidate comes twice.
        """
        candidates: list[Candidate] = []
        for index, row in enumerate(self.rows or ()):
            stated = self.defaults.model_dump(exclude_none=True) | row.model_dump(exclude_none=True)
            stated.setdefault("variant", "phase8")
            stated.setdefault("vocab_size", DEFAULT_VOCAB_SIZE)
            for key in Row.model_fields:
                if key not in stated:
                    raise ValueError(f"rows[{index}].{key}: expected this key here or in defaults")
            if stated["kernel_version"] not in KERNEL_VERSIONS:
                raise ValueError(
                    f"rows[{index}].kernel_version: expected a version of this installation "
                    f"({', '.join(KERNEL_VERSIONS)}), got {shown(stated['kernel_version'])}"
                )
            for mode in self.modes:
                candidate = Candidate(workload=self.workload, mode=mode, **stated)
                if candidate in candidates:
                    first = candidates.index(candidate) // len(self.modes)
                    raise ValueError(f"rows[{index}]: expected every row once, got the same as rows[{first}]")
                candidates.append(candidate)
        return tuple(candidates)

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of what decides which candidates are measured and how they are timed.

        The limits (trials, time, stall) are left out, so that a finished study can be taken further by
        raising them. A key that came later counts only where it is given, as in `Candidate.identity`.
        """
        axes, timing = self.axis_values(), self.timing.model_dump()
        content = {
            "name": self.name,
            "workload": self.workload,
            "axes": identity(axes, first=FORMAT_1_FIELDS, defaults=_defaults(self.axes)),
            "rows": [c.identity() for c in self.row_candidates()],
            "timing": identity(timing, first=FORMAT_1_TIMING, defaults=_defaults(self.timing)),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_yaml(self) -> str:
        """The definition as a YAML text that `parse_definition` reads back to an equal one."""
        return yaml.dump(json.loads(self.model_dump_json(exclude_unset=True)), Dumper=Dumper, sort_keys=False)


def parse_definition(text: str, source: str) -> StudyDefinition:
    """The study that a YAML text defines; `source` names it in messages.

    Raises: UserInputError, one line with the key, what was expected and what came.
    """
    try:
        definition = StudyDefinition.model_validate(parse_mapping(text, source))
        definition.row_candidates()
    except ValidationError as error:
        raise explain(error, source, StudyDefinition) from None
    except ValueError as error:
        raise UserInputError(f"{source}: {error}") from None
    if definition.axes is not None and not definition.axis_values()["kernel_version"]:
        raise UserInputError(
            f"{source}: axes.kernel_version: expected at least one version of this installation "
            f"({', '.join(KERNEL_VERSIONS)}), got {', '.join(definition.missing_versions)}"
        )
    return definition


def read_definition_text(name_or_path: str) -> tuple[str, str]:
    """(text, source) of a packaged study by its name, or of a YAML file by its path.

    Raises: UserInputError where there is neither.
    """
    if name_or_path in packaged_studies():
        return read_packaged(name_or_path), f"{name_or_path}.yaml"
    path = Path(name_or_path)
    is_name = path.suffix not in (".yaml", ".yml") and len(path.parts) <= 1 and not path.exists()
    if is_name:
        meant = nearest(name_or_path, packaged_studies())
        hint = "" if meant is None else f"; did you mean {meant}?"
        raise UserInputError(
            f"study {shown(name_or_path)}: expected one of {', '.join(packaged_studies())}, "
            f"or the path of a YAML file{hint}"
        )
    return read_text_file(path, "study definition"), str(path)


def load_definition(name_or_path: str) -> StudyDefinition:
    """The study of that name, or in that file.

    Raises: UserInputError, one line that says what to correct.
    """
    text, source = read_definition_text(name_or_path)
    return parse_definition(text, source)
