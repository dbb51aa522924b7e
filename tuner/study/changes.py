"""A study with other models, or for another vocabulary, than it was written with."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..values.errors import UserInputError
from .definition import StudyDefinition


def with_models(definition: StudyDefinition, models: Sequence[str]) -> StudyDefinition:
    """The study of these models alone, by their names.

    Of several products each keeps those that it has; a model that none has is searched where most models are.
    A study of rows keeps its rows of these models.
    Raises: UserInputError for a model that a study of rows has not.
    """
    axes = definition.axes
    products = axes if isinstance(axes, tuple) else (axes,) if axes is not None else ()
    if not products:
        return _with_rows_of(definition, models)
    known = {model for product in products for model in product.model}
    new = [model for model in models if model not in known]
    widest = max(products, key=lambda product: len(product.model))
    taken = []
    for product in products:
        chosen = [model for model in product.model if model in models]
        chosen += new if product is widest else ()
        if chosen:
            taken.append(product.model_copy(update={"model": tuple(chosen)}))
    return definition.model_copy(update={"axes": taken[0] if len(taken) == 1 else tuple(taken)})


def _with_rows_of(definition: StudyDefinition, models: Sequence[str]) -> StudyDefinition:
    names = {row: row.model or definition.defaults.model for row in definition.rows or ()}
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
    """The study of models with a vocabulary of so many tokens, whatever it says itself."""
    axes, rows = definition.axes, definition.rows
    one = {"vocab_size": vocab_size}
    if rows is not None:
        return definition.model_copy(update={"rows": tuple(row.model_copy(update=one) for row in rows)})
    products = axes if isinstance(axes, tuple) else (axes,) if axes is not None else ()
    taken = [product.model_copy(update={"vocab_size": (vocab_size,)}) for product in products]
    return definition.model_copy(update={"axes": taken[0] if len(taken) == 1 else tuple(taken)})


def without(
    definition: StudyDefinition, *, kernel_versions: Collection[str], precisions: Collection[str]
) -> StudyDefinition | None:
    """The study without these; None where nothing is left of it."""
    if definition.rows is not None:
        default = definition.defaults
        rows = tuple(
            row
            for row in definition.rows
            if (row.kernel_version or default.kernel_version) not in kernel_versions
            and (row.mixed_precision or default.mixed_precision) not in precisions
        )
        return definition.model_copy(update={"rows": rows}) if rows else None
    taken = []
    for product in definition.products:
        left = {
            "kernel_version": tuple(v for v in product.kernel_version if v not in kernel_versions),
            "mixed_precision": tuple(p for p in product.mixed_precision if p not in precisions),
        }
        if all(left.values()):
            taken.append(product.model_copy(update=left))
    if not taken:
        return None
    return definition.model_copy(update={"axes": taken[0] if len(taken) == 1 else tuple(taken)})
