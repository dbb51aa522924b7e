"""A study with other models, or other values on an axis, than it was written with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..values.axes import AxisValue
from ..values.errors import UserInputError
from ..values.workload_spec import WorkloadSpec
from .axes import Axes
from .definition import StudyDefinition


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
            widest = max(own, key=lambda number: len(products[number].model))
            new[widest] = [model for model in models if model not in known and _has_model(spec, model)]
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
