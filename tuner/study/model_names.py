"""What a user calls a model, as the one name that candidates, records and files have for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..values.candidate import DEFAULT_WORKLOAD
from ..values.errors import UserInputError
from ..values.workload_spec import WorkloadSpec, known_spec
from ..workloads.spec import spec_of


def model_option(names: Iterable[str], workloads: Sequence[str] = (DEFAULT_WORKLOAD,)) -> tuple[str, ...]:
    """The models that were named by `--model`, each once, the smallest first.

    Raises: UserInputError for what names no model of any of these workloads.
    """
    specs = tuple(map(spec_of, workloads))
    models = {_first_name(name, specs) for name in names}
    return tuple(sorted(models, key=lambda model: (size_of(model, specs), model)))


def size_of(model: str, specs: Iterable[WorkloadSpec]) -> float:
    """By which models are put in order: what the first of these workloads says that knows the model."""
    sizes = (spec.model_size(model) for spec in specs if spec.model_size is not None)
    return next((size for size in sizes if size < float("inf")), float("inf"))


def _first_name(name: str, specs: Sequence[WorkloadSpec]) -> str:
    problem = ""
    for spec in specs:
        try:
            return str(spec.name_model(name))
        except ValueError as error:
            problem = problem or str(error)
    raise UserInputError(f"--model: {problem}")


def known_or_same(name: str, workload: str = DEFAULT_WORKLOAD) -> str:
    """A model's name as records have it; what names none is left as it is."""
    spec = known_spec(workload)
    try:
        return name if spec is None else str(spec.name_model(name))
    except ValueError:
        return name
