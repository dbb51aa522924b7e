"""The search space: one static rectangle of axes, and candidates as points of it.

Source: docs/architecture.md, Searching: batch and sequence as ordinal integers, the rest categorical; choices
and bounds never change, what cannot be measured is pruned.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from ..values.candidate import CANDIDATE_FIELDS, Candidate
from .definition import StudyDefinition

if TYPE_CHECKING:
    from optuna import Trial

ORDINAL_AXES = ("n_seq", "batch_size")


class SearchSpace:
    """The candidates of a study as Optuna sees them.

    A parameter is named after its axis; an ordinal one is the index into the sorted values, `<axis>_index`. A
    study of rows lives in the rectangle around its rows, and has no candidates but these.
    """

    def __init__(self, definition: StudyDefinition) -> None:
        self._rows = definition.row_candidates()
        values = {"workload": (definition.workload,)} | definition.axis_values()
        if self._rows:
            values = {
                axis: tuple(dict.fromkeys(getattr(row, axis) for row in self._rows))
                for axis in CANDIDATE_FIELDS
            }
        self._values: dict[str, tuple[Any, ...]] = {
            axis: tuple(sorted(values[axis])) if axis in ORDINAL_AXES else values[axis]
            for axis in CANDIDATE_FIELDS
        }

    @property
    def is_rows(self) -> bool:
        return bool(self._rows)

    def size(self) -> int:
        """Number of candidates."""
        if self._rows:
            return len(self._rows)
        total = 1
        for values in self._values.values():
            total *= len(values)
        return total

    def enumerate(self) -> Iterator[Candidate]:
        """Every candidate once: rows in their order, a product with the last axis fastest."""
        if self._rows:
            yield from self._rows
            return
        for point in itertools.product(*self._values.values()):
            yield Candidate(**dict(zip(self._values, point, strict=True)))

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distribution of every parameter."""
        return {
            _parameter(axis): (
                IntDistribution(0, len(values) - 1)
                if axis in ORDINAL_AXES
                else CategoricalDistribution(values)
            )
            for axis, values in self._values.items()
        }

    def suggest(self, trial: Trial) -> Candidate:
        """Let the sampler of a trial choose a candidate."""
        chosen: dict[str, Any] = {}
        for axis, values in self._values.items():
            if axis in ORDINAL_AXES:
                chosen[axis] = values[trial.suggest_int(_parameter(axis), 0, len(values) - 1)]
            else:
                chosen[axis] = trial.suggest_categorical(_parameter(axis), values)
        return Candidate(**chosen)

    def parameters_of(self, candidate: Candidate) -> dict[str, Any]:
        """A candidate as Optuna parameters, the inverse of `suggest`.

        Raises: ValueError, naming the axis, for a candidate outside the space.
        """
        parameters: dict[str, Any] = {}
        for axis, values in self._values.items():
            value = getattr(candidate, axis)
            if value not in values:
                raise ValueError(f"{axis}: expected one of {values}, got {value!r}")
            parameters[_parameter(axis)] = values.index(value) if axis in ORDINAL_AXES else value
        return parameters


def _parameter(axis: str) -> str:
    return f"{axis}_index" if axis in ORDINAL_AXES else axis
