"""The search space: one static rectangle of axes, and candidates as points of it.

Source: docs/architecture.md, Searching: batch and sequence as integers, the rest categorical; choices and
bounds never change, what cannot be measured is pruned.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from ..values.candidate import Candidate
from ..values.errors import UserInputError
from ..values.workload_spec import known_spec
from .axes import Axes, Bounds
from .definition import StudyDefinition

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

_BATCH = "batch_size"


class SearchSpace:
    """The candidates of a study, and how Optuna sees them.

    A space is made of lines: candidates that differ only in the batch. A parameter is named after its axis;
    an axis whose near values are alike, and a batch of a few listed values, is the index into the sorted
    values, `<axis>_index`; a batch between bounds is the number itself, on a logarithmic scale. A study of
    rows, or of several products, lives in the rectangle around them, and has no candidates but these, without
    those of which a workload knows that a model does not take them. Of several workloads it has the axes of
    all: what a candidate's workload lacks stands at its first value.
    """

    def __init__(self, definition: StudyDefinition) -> None:
        """Raises: UserInputError where nothing is left that its models take."""
        self._rows = definition.row_candidates()
        self._batches: dict[Candidate, Sequence[int]] = {}
        for row in self._rows:
            self._add(row.line(), (row.batch_size,))
        obstacles: list[str] = []
        always: set[Candidate] = set()
        for product in definition.products:
            for line in _lines(product):
                if (obstacle := line.obstacle) is not None:
                    obstacles.append(obstacle)
                    continue
                self._add(line, _batches(product))
                if product.tried_where is None:
                    always.add(line)
        self._savings = dict.fromkeys(line for line in self._batches if always and line not in always)
        if not self._batches and obstacles:
            raise UserInputError(
                f"study {definition.name}: expected what some of its models take, got nothing: {obstacles[0]}"
            )
        self._has_bounds = any(isinstance(product.batch_size, Bounds) for product in definition.products)
        self._ordered = {axis.name for spec in definition.specs for axis in spec.axes if axis.is_ordered}
        fields = dict.fromkeys(name for spec in definition.specs for name in spec.order)
        values = {name: self._values_of(name) for name in fields if name != _BATCH}
        ranges = self._batches.values()
        self._bounds = min(r[0] for r in ranges), max(r[-1] for r in ranges)
        if not self._has_bounds:
            values[_BATCH] = tuple(sorted({batch for each in ranges for batch in each}))
        self._values: dict[str, tuple[Any, ...]] = {name: values[name] for name in fields if name in values}

    def _values_of(self, name: str) -> tuple[Any, ...]:
        """Those of the lines that have it, ascending where near ones are alike."""
        lines = (line for line in self._batches if name in line.spec.order)
        values: tuple[Any, ...] = tuple(dict.fromkeys(line.field(name) for line in lines))
        return tuple(sorted(values)) if name in self._ordered else values

    def _add(self, line: Candidate, batches: Sequence[int]) -> None:
        before = self._batches.get(line, ())
        same = not before or before == batches
        self._batches[line] = batches if same else tuple(sorted({*before, *batches}))

    @property
    def is_rows(self) -> bool:
        return bool(self._rows)

    @property
    def lines(self) -> tuple[Candidate, ...]:
        """Every line once (`Candidate.line`): a product with the last axis fastest, rows in their order."""
        return tuple(self._batches)

    @property
    def savings(self) -> Collection[Candidate]:
        """The lines that are tried only where memory limits their cell, in their order; none where the study
        has no other lines."""
        return self._savings.keys()

    def batches(self, line: Candidate) -> Sequence[int]:
        """The batches of a line, ascending; none of one that is not in the space."""
        return self._batches.get(line, ())

    def __contains__(self, candidate: Candidate) -> bool:
        return candidate.batch_size in self.batches(candidate.line())

    def size(self) -> int:
        """Number of candidates."""
        return sum(map(len, self._batches.values()))

    def enumerate(self) -> Iterator[Candidate]:
        """Every candidate once: rows in their order, else by line, then by batch."""
        if self._rows:
            yield from self._rows
            return
        for line, batches in self._batches.items():
            for batch in batches:
                yield line.at(batch)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distribution of every parameter."""
        found: dict[str, BaseDistribution] = {}
        for axis, values in self._values.items():
            if self._is_ordinal(axis):
                found[_index(axis)] = IntDistribution(0, len(values) - 1)
            else:
                found[axis] = CategoricalDistribution(values)
        if self._has_bounds:
            found[_BATCH] = IntDistribution(*self._bounds, log=True)
        return found

    def suggest(self, trial: BaseTrial) -> Candidate:
        """Let the sampler of a trial choose a candidate of the rectangle; it may lie outside of the space."""
        chosen: dict[str, Any] = {}
        for axis, values in self._values.items():
            if self._is_ordinal(axis):
                chosen[axis] = values[trial.suggest_int(_index(axis), 0, len(values) - 1)]
            else:
                chosen[axis] = trial.suggest_categorical(axis, values)
        if self._has_bounds:
            chosen[_BATCH] = trial.suggest_int(_BATCH, *self._bounds, log=True)
        spec = known_spec(chosen["workload"])
        return Candidate(**{name: chosen[name] for name in (chosen if spec is None else spec.order)})

    def parameters_of(self, candidate: Candidate) -> dict[str, Any]:
        """A candidate as Optuna parameters, the inverse of `suggest`.

        Raises: ValueError, naming the axis, for a candidate outside the rectangle.
        """
        parameters: dict[str, Any] = {}
        for axis, values in self._values.items():
            value = candidate.field(axis) if axis in candidate.spec.order else values[0]
            if value not in values:
                raise ValueError(f"{axis}: expected one of {values}, got {value!r}")
            if self._is_ordinal(axis):
                parameters[_index(axis)] = values.index(value)
            else:
                parameters[axis] = value
        if self._has_bounds:
            low, high = self._bounds
            if not low <= candidate.batch_size <= high:
                raise ValueError(f"batch_size: expected {low} to {high}, got {candidate.batch_size}")
            parameters[_BATCH] = candidate.batch_size
        return parameters

    def _is_ordinal(self, axis: str) -> bool:
        return axis in self._ordered or (axis == _BATCH and not self._has_bounds)


def _lines(product: Axes) -> Iterator[Candidate]:
    values = product.values()
    axes = [axis for axis in product.spec.order if axis in values and axis != _BATCH]
    for point in itertools.product(*(values[axis] for axis in axes)):
        yield Candidate(workload=product.spec.name, batch_size=0, **dict(zip(axes, point, strict=True)))


def _batches(product: Axes) -> Sequence[int]:
    batches = product.batch_size
    return range(batches.min, batches.max + 1) if isinstance(batches, Bounds) else tuple(sorted(batches))


def _index(axis: str) -> str:
    return f"{axis}_index"
