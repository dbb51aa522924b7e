"""Study definitions: what to search, how long, and how to time it; a strict border for YAML files.

A definition either spans products of `axes` or lists `rows`, for example the rows of a published table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ...studies import packaged_studies, read_packaged
from ..values.candidate import DEFAULT_WORKLOAD, Candidate, Mode
from ..values.errors import UserInputError
from ..values.format_versions import identity
from ..values.measurement import Border
from ..values.nearest import nearest
from ..values.timing import FORMAT_1_TIMING, Timing
from ..values.workload_spec import WorkloadSpec, known_spec
from ..values.yaml_dialect import Dumper
from ..values.yaml_reading import explain, parse_mapping, read_text_file, shown
from ..workloads.spec import spec_of
from .axes import NO_ROW, Axes, Axis, Positive, Row, as_tuple
from .products import complete_row, keys_at, read_products, read_row, read_rows

if TYPE_CHECKING:
    _Products = Axes | tuple[Axes, ...] | None
    _Rows = tuple[Row, ...] | None
    _Row = Row
else:  # read and written by the borders of their workloads
    _Products = _Rows = _Row = Any
Sampler = Literal["tpe", "nsga2", "gp", "random", "grid"]


class Stall(Border):
    """Stop when the hypervolume grew by less than the share `growth` over the last `measurements`."""

    measurements: Positive
    growth: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.001


class SearchSettings(Border):
    """How the sampler starts and when the search ends; None: no such limit.

    `trials` counts candidates launched, those of earlier sessions of the run too; `time_limit_s` is of one
    session.
    check_share: of the candidates that are predicted not to fit, those that are measured nevertheless.
    sampler: who proposes once the best of the cells are known.
    exhaustive: measure all that is predicted to fit, of batches between bounds those of a ladder; `sampler`
    and `stall` do nothing then.
    """

    trials: Positive | None = None
    startup_trials: Positive = 10
    seed: Annotated[int, Field(ge=0)] = 0
    time_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    stall: Stall | None = None
    check_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    sampler: Sampler = "tpe"
    exhaustive: bool = False


class StudyDefinition(Border):
    """A study: `axes`, or `rows` with `defaults` and `modes`.

    Raises: ValidationError; `load_definition` and `parse_definition` turn it into one line for the user.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
    workload: Annotated[str | tuple[str, ...], BeforeValidator(as_tuple)] = DEFAULT_WORKLOAD
    axes: _Products = None
    defaults: _Row = NO_ROW
    modes: Axis[Mode] = ("train",)
    rows: _Rows = None
    search: SearchSettings = SearchSettings()
    timing: Timing = Timing()

    @field_validator("workload")
    @classmethod
    def _are_described(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        names = (value,) if isinstance(value, str) else value
        if not names or len(set(names)) < len(names):
            raise ValueError(f"expected a workload, or several once each, got {shown(value)}")
        for name in names:
            try:
                spec_of(name)
            except UserInputError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("axes", mode="plain")
    @classmethod
    def _products(cls, value: object, info: ValidationInfo) -> object:
        specs = _specs(info.data)
        return read_products(value, specs) if specs and value is not None else value

    @field_validator("defaults", mode="plain")
    @classmethod
    def _one_row(cls, value: object, info: ValidationInfo) -> object:
        specs = _specs(info.data)
        return read_row(value, specs) if specs else value

    @field_validator("rows", mode="plain")
    @classmethod
    def _several_rows(cls, value: object, info: ValidationInfo) -> object:
        specs = _specs(info.data)
        return read_rows(value, specs) if specs and value is not None else value

    @model_validator(mode="after")
    def _axes_or_rows(self) -> Self:
        if (self.axes is None) == (self.rows is None):
            came = "neither" if self.axes is None else "both"
            raise ValueError(f"expected either axes or rows, got {came}")
        if self.axes is not None and all(product.tried_where for product in self.products):
            raise ValueError("axes: expected a product without tried_where, got none")
        if self.axes is not None:
            for key in ("defaults", "modes"):
                if key in self.model_fields_set:
                    raise ValueError(f"{key}: expected only beside rows, got it beside axes")
        return self

    @property
    def workloads(self) -> tuple[str, ...]:
        """The workloads that are searched, by name."""
        return (self.workload,) if isinstance(self.workload, str) else self.workload

    @property
    def specs(self) -> tuple[WorkloadSpec, ...]:
        """What is known of them."""
        return tuple(map(spec_of, self.workloads))

    @property
    def products(self) -> tuple[Axes, ...]:
        """The products whose union is the space; empty for a study of rows."""
        if self.axes is None:
            return ()
        return self.axes if isinstance(self.axes, tuple) else (self.axes,)

    def with_products(self, products: Sequence[Axes]) -> Self:
        """The study of these products instead of its own."""
        return self.model_copy(update={"axes": products[0] if len(products) == 1 else tuple(products)})

    @property
    def missing_versions(self) -> tuple[str, ...]:
        """Versions an axis names and this installation does not have: the space leaves them out."""
        return tuple(dict.fromkeys(v for product in self.products for v in product.missing_versions))

    def row_candidates(self) -> tuple[Candidate, ...]:
        """The candidates of a study of rows, every row in each mode, in order; empty for a study of axes.

        Raises: ValueError, naming the row, where a key is given neither there nor in `defaults`, or a
        candidate comes twice.
        """
        candidates: list[Candidate] = []
        for index, row in enumerate(self.rows or ()):
            stated = self.defaults.model_dump(exclude_none=True) | row.model_dump(exclude_none=True)
            try:
                spec, stated = complete_row(stated, self.specs)
            except ValueError as error:
                raise ValueError(f"rows[{index}].{error}") from None
            for mode in self.modes:
                candidate = Candidate(workload=spec.name, mode=mode, **stated)
                if (obstacle := candidate.obstacle) is not None:
                    raise ValueError(f"rows[{index}]: {obstacle}")
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
        timing = self.timing.model_dump()
        products = [_identity(product) for product in self.products]
        content = {
            "name": self.name,
            "workload": self.workload,
            "axes": products if len(products) > 1 else dict(*products),
            "rows": [c.identity() for c in self.row_candidates()],
            "timing": identity(timing, first=FORMAT_1_TIMING, defaults=_defaults(self.timing)),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_yaml(self) -> str:
        """The definition as a YAML text that `parse_definition` reads back to an equal one."""
        return yaml.dump(json.loads(self.model_dump_json(exclude_unset=True)), Dumper=Dumper, sort_keys=False)


def _defaults(border: Border) -> dict[str, Any]:
    return {name: field.default for name, field in type(border).model_fields.items()}


def _identity(product: Axes) -> dict[str, Any]:
    counts = identity(product.recorded(), first=product.spec.counted, defaults=_defaults(product))
    given = {"workload": product.workload, "tried_where": product.tried_where}
    return counts | {key: value for key, value in given.items() if value is not None}


def _specs(data: Mapping[str, Any]) -> tuple[WorkloadSpec, ...]:
    """The workloads of a study of which so much was read; none where their names were wrong."""
    workload = data.get("workload", ())
    return tuple(map(spec_of, (workload,) if isinstance(workload, str) else workload))


def parse_definition(text: str, source: str) -> StudyDefinition:
    """The study that a YAML text defines; `source` names it in messages.

    Raises: UserInputError, one line with the key, what was expected and what came.
    """
    data = parse_mapping(text, source)
    try:
        definition = StudyDefinition.model_validate(data)
        definition.row_candidates()
    except ValidationError as error:
        raise explain(error, source, StudyDefinition, lambda place: keys_at(place, _known(data))) from None
    except ValueError as error:
        raise UserInputError(f"{source}: {error}") from None
    for number, product in enumerate(definition.products):
        version = product.spec.version_axis
        if version is not None and not product.values()[version]:
            installed = product.spec.installed
            place = f"[{number}]" if len(definition.products) > 1 else ""
            raise UserInputError(
                f"{source}: axes{place}.{version}: expected at least one version of this installation "
                f"({', '.join(installed() if installed else ())}), got {', '.join(product.missing_versions)}"
            )
    return definition


def _known(data: Mapping[str, Any]) -> tuple[WorkloadSpec, ...]:
    workload = data.get("workload")
    names = [workload] if isinstance(workload, str) else workload if isinstance(workload, list) else []
    found = (known_spec(name) for name in names if isinstance(name, str))
    return tuple(spec for spec in found if spec is not None) or (spec_of(DEFAULT_WORKLOAD),)


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
