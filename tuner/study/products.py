"""The products and rows of a study, each read by the border of its workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from ..values.measurement import Border
from ..values.nearest import one_of
from ..values.workload_spec import WorkloadSpec
from ..values.yaml_reading import UNNAMED, explain, shown
from .axes import Axes, Bounds, Row, axes_class, known_keys, row_class

_Place = tuple[int | str, ...]


class _Errors:
    """What is wrong at several places, told all at once as pydantic does."""

    def __init__(self) -> None:
        self._found: list[InitErrorDetails] = []

    def read(self, border: type[Border], value: object, place: _Place) -> Any:
        """The value as its border reads it; None where it does not."""
        try:
            return border.model_validate(value)
        except ValidationError as error:
            for found in error.errors(include_url=False):
                detail = InitErrorDetails(
                    type=found["type"], loc=(*place, *found["loc"]), input=found["input"]
                )
                if "ctx" in found:
                    detail["ctx"] = found["ctx"]
                self._found.append(detail)
            return None

    def add(self, text: str, value: object, place: _Place) -> None:
        """Note a sentence about a value."""
        error = ValueError(text)
        self._found.append(InitErrorDetails(type="value_error", loc=place, input=value, ctx={"error": error}))

    def add_empty(self, value: object) -> None:
        """Note a list that lacks what it should hold."""
        context = {"field_type": "Tuple", "min_length": 1, "actual_length": 0}
        self._found.append(InitErrorDetails(type="too_short", loc=(), input=value, ctx=context))

    def add_no_list(self, value: object) -> None:
        """Note what should be a list."""
        self._found.append(InitErrorDetails(type="tuple_type", loc=(), input=value))

    def tell(self) -> None:
        """Raises: ValidationError where there was anything."""
        if self._found:
            raise ValidationError.from_exception_data("study", self._found)


def read_products(value: object, specs: Sequence[WorkloadSpec]) -> Axes | tuple[Axes, ...]:
    """The products of a study of these workloads: one product of axes, or a list of them.

    Of several workloads each product is of the one that it names, or of all: then an axis counts for those
    that have it. Raises: ValidationError.
    """
    errors = _Errors()
    is_list = isinstance(value, list | tuple)
    products = value if isinstance(value, list | tuple) else (value,)
    if not products:
        errors.add_empty(value)
    found = []
    for number, product in enumerate(products):
        place: _Place = (number,) if is_list else ()
        for spec, part in _parts(product, specs, errors, place):
            found.append(errors.read(axes_class(spec), part, place))
    errors.tell()
    return tuple(found) if is_list or len(found) > 1 else found[0]


def read_row(value: object, specs: Sequence[WorkloadSpec]) -> Row:
    """What rows have in common, in a study of these workloads. Raises: ValidationError."""
    errors = _Errors()
    row: Row = errors.read(row_class(tuple(specs)), _plain(value), ())
    errors.tell()
    return row


def read_rows(value: object, specs: Sequence[WorkloadSpec]) -> tuple[Row, ...]:
    """The rows of a study of these workloads. Raises: ValidationError."""
    errors = _Errors()
    border = row_class(tuple(specs))
    rows: list[Row] = []
    if not isinstance(value, list | tuple):
        errors.add_no_list(value)
    elif not value:
        errors.add_empty(value)
    else:
        rows = [errors.read(border, _plain(row), (number,)) for number, row in enumerate(value)]
    errors.tell()
    return tuple(rows)


def complete_row(
    stated: dict[str, Any], known: Sequence[WorkloadSpec]
) -> tuple[WorkloadSpec, dict[str, Any]]:
    """The workload of a row of a study, and what the row says with all defaults.

    stated: with what rows have in common.

    Raises: ValueError that begins with the key.
    """
    specs = {spec.name: spec for spec in known}
    name = stated.pop("workload", None if len(specs) > 1 else known[0].name)
    if name not in specs:
        raise ValueError(f"workload: {one_of(specs, str(name))}")
    spec = specs[name]
    border = row_class((spec,))
    stated = {key: value for key, value in stated.items() if key in border.model_fields}
    if len(specs) > 1:
        try:
            stated = border.model_validate(stated).model_dump(exclude_none=True)
        except ValidationError as error:
            raise ValueError(str(explain(error, "", border))) from None
    stated = {axis.name: axis.default for axis in spec.axes if axis.default is not None} | stated
    for key in border.model_fields:
        if key not in stated:
            raise ValueError(f"{key}: expected this key here or in defaults")
    version = spec.version_axis
    if version is not None and spec.installed is not None and stated[version] not in spec.installed():
        raise ValueError(
            f"{version}: expected a version of this installation "
            f"({', '.join(spec.installed())}), got {shown(stated[version])}"
        )
    return spec, stated


def _plain(row: object) -> object:
    return row.model_dump(exclude_unset=True) if isinstance(row, Row) else row


def keys_at(place: Sequence[int | str], specs: Sequence[WorkloadSpec]) -> tuple[str, ...] | None:
    """The keys that a mapping at a place of a study may have, where its workloads say that; else None."""
    names = [part for part in place if isinstance(part, str) and not part.startswith(UNNAMED)]
    first, rest = names[:1], names[1:]
    if first == ["axes"]:
        return tuple(Bounds.model_fields) if rest else known_keys(specs)
    return tuple(row_class(tuple(specs)).model_fields) if first in (["rows"], ["defaults"]) else None


def _parts(
    product: object, specs: Sequence[WorkloadSpec], errors: _Errors, place: _Place
) -> list[tuple[WorkloadSpec, object]]:
    """What of a product each of its workloads reads."""
    if isinstance(product, Axes):
        product = {name: getattr(product, name) for name in product.model_fields_set}
    named = product.get("workload") if isinstance(product, Mapping) else None
    if named is not None:
        names = [spec.name for spec in specs]
        if named not in names:
            errors.add(one_of(names, str(named)), named, (*place, "workload"))
            return []
        return [(spec, product) for spec in specs if spec.name == named]
    if len(specs) == 1 or not isinstance(product, Mapping):
        return [(specs[0], product)]
    parts: list[tuple[WorkloadSpec, object]] = []
    known = known_keys(specs)
    for spec in specs:
        has = axes_class(spec).model_fields
        part = {key: value for key, value in product.items() if key in has or key not in known}
        parts.append((spec, part | {"workload": spec.name}))
    return parts
