"""A study with other models, or other values on an axis, than it was written with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..values.axes import AxisValue
from ..values.errors import UserInputError
from ..values.workload_spec import WorkloadSpec
from ..workloads.spec import spec_of
from .axes import Axes
from .definition import StudyDefinition

_ANY_MODEL = "model"
"""What a model is called where its workload has no names for any."""


def with_workloads(definition: StudyDefinition, names: Sequence[str]) -> StudyDefinition:
    """The study of these workloads alone.

    A workload that it has not is searched on what its axes have in common with the study, by name, and
    beyond on what its spec says.
    Raises: UserInputError for a name that is none, or a workload that a study of rows has not.
    """
    known = definition.workloads
    if definition.rows is not None and (new := [name for name in names if name not in known]):
        raise UserInputError(
            f"--workload: expected a workload of study {definition.name}, which has rows "
            f"({', '.join(known)}), got {new[0]}; another is searched in a study of axes"
        )
    products: list[dict[str, Any]] = []
    for name in names:
        own = [product for product in definition.products if product.spec.name == name]
        for values in map(_plain, own) if own else [_like(definition.products, spec_of(name))]:
            products.append(values | ({"workload": name} if len(names) > 1 else {}))
    data: dict[str, Any] = {
        **definition.model_dump(exclude_unset=True, exclude={"axes", "rows", "workload"}),
        "workload": names[0] if len(names) == 1 else tuple(names),
    }
    if definition.rows is not None:
        return StudyDefinition.model_validate(data | {"rows": definition.rows})
    return StudyDefinition.model_validate(data | {"axes": products})


def _plain(product: Axes) -> dict[str, Any]:
    return product.model_dump(exclude_unset=True, exclude={"workload"})


def _like(products: Sequence[Axes], spec: WorkloadSpec) -> dict[str, Any]:
    """A product of a workload that a study has not."""
    always = [product for product in products if product.tried_where is None]
    widest = max(always, key=lambda product: len(product.model))
    shared = widest.values()
    values: dict[str, Any] = {name: shared[name] for name in ("batch_size", "mode")}
    models = [model for model in shared["model"] if _has_model(spec, model)] if spec.models else []
    values["model"] = tuple(models) or spec.searched_models or spec.models or (_ANY_MODEL,)
    for axis in spec.axes:
        default = () if axis.default is None else (axis.default,)
        # Another model is searched where that is asked for, another setting of one wherever it may pay
        own = axis.searched or (default if axis.is_of_model and default else axis.values or default)
        alike = tuple(value for value in shared.get(axis.name, ()) if axis.allows(value))
        values[axis.name] = alike or own
        if not values[axis.name]:
            raise UserInputError(
                f"--workload {spec.name}: expected a study with values of {axis.name}, got "
                "one without; write it in a study of your own, and name it with --study"
            )
    return values


def with_models(definition: StudyDefinition, models: Sequence[str]) -> StudyDefinition:
    """The study of these models alone, by their names.

    Of several products each keeps those that it has; a model that none of its workload has is searched where
    most models of that are. A study of rows keeps its rows of these models.
    Raises: UserInputError for a model that a study of rows has not.
    """
    products = definition.products
    if not products:
        return _with_rows_of(definition, models)
    new: dict[int, list[str]] = {}
    for spec in definition.specs:
        own = [number for number, product in enumerate(products) if product.spec is spec]
        if own:
            known = {model for number in own for model in products[number].model}
            added = [model for model in models if model not in known and _has_model(spec, model)]
            always = [number for number in own if products[number].tried_where is None]
            widest = max(always or own, key=lambda number: len(products[number].model))
            new[widest] = added
            # Where memory may limit the larger of those that there are it may limit others too
            new |= {number: added for number in own if number not in always}
    taken = []
    for number, product in enumerate(products):
        chosen = [model for model in product.model if model in models] + new.get(number, [])
        if chosen:
            taken.append(product.model_copy(update={"model": tuple(chosen)}))
    return definition.with_products(taken)


def _has_model(spec: WorkloadSpec, model: str) -> bool:
    try:
        return spec.name_model(model) == model
    except ValueError:
        return False


def _with_rows_of(definition: StudyDefinition, models: Sequence[str]) -> StudyDefinition:
    names = {row: row.model or getattr(definition.defaults, "model", None) for row in definition.rows or ()}
    for model in models:
        if model not in names.values():
            known = ", ".join(dict.fromkeys(str(name) for name in names.values()))
            raise UserInputError(
                f"--model: expected one of the rows of study {definition.name} ({known}), got {model}; "
                "another is searched in a study of axes"
            )
    rows = tuple(row for row, name in names.items() if name in models)
    return definition.model_copy(update={"rows": rows})


def with_vocab_size(definition: StudyDefinition, vocab_size: int) -> StudyDefinition:
    """The study of models with a vocabulary of so many tokens, whatever it says itself.

    Raises: UserInputError where no workload of the study has one.
    """
    axis = "vocab_size"
    if not any(axis in spec.by_name for spec in definition.specs):
        raise UserInputError(
            f"--vocab-size: expected a study of models with a vocabulary, got one of "
            f"{', '.join(definition.workloads)}; leave it out"
        )
    if definition.rows is not None:
        rows = tuple(row.model_copy(update={axis: vocab_size}) for row in definition.rows)
        return definition.model_copy(update={"rows": rows})
    return definition.with_products(
        [
            product.model_copy(update={axis: (vocab_size,)}) if axis in product.spec.by_name else product
            for product in definition.products
        ]
    )


def without(
    definition: StudyDefinition, values: Mapping[str, Collection[AxisValue]]
) -> StudyDefinition | None:
    """The study without these values of axes; None where nothing is left of it."""
    if definition.rows is not None:
        candidates = zip(definition.rows, definition.row_candidates()[:: len(definition.modes)], strict=True)
        rows = tuple(
            row
            for row, candidate in candidates
            if not any(candidate.axes.get(axis) in left_out for axis, left_out in values.items())
        )
        return definition.model_copy(update={"rows": rows}) if rows else None
    taken = [left for product in definition.products if (left := _left_of(product, values)) is not None]
    return definition.with_products(taken) if taken else None


def _left_of(product: Axes, values: Mapping[str, Collection[AxisValue]]) -> Axes | None:
    left = {
        axis: tuple(value for value in getattr(product, axis) if value not in left_out)
        for axis, left_out in values.items()
        if axis in product.spec.by_name
    }
    return product.model_copy(update=left) if all(left.values()) else None
