"""What models, settings and rates are called, whatever the workload."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from ..values.axes import Axis
from ..values.candidate import Candidate
from ..values.workload_spec import WorkloadSpec, known_spec
from .frontier import Point


def specs_of(candidates: Iterable[Candidate]) -> tuple[WorkloadSpec, ...]:
    """What is known of their workloads, each once."""
    found = {candidate.workload: candidate.spec for candidate in candidates}
    return tuple(found.values())


def namer(candidates: Iterable[Candidate]) -> Callable[[Candidate], str]:
    """What a model is called among some candidates: of several workloads it says which."""
    is_one = len({candidate.workload for candidate in candidates}) < 2
    return lambda candidate: " ".join((*(() if is_one else (candidate.spec.title,)), *candidate.model_words))


def rate_unit(candidates: Iterable[Candidate]) -> str:
    """What a rate of theirs counts: `tokens/s`; `items/s` where they count different things."""
    return f"{_items(candidates)}/s"


def items_of(points: Iterable[Point]) -> str:
    """What the rates of points count: `tokens`; `items` where they count different things."""
    return _items(point.candidate for point in points)


def _items(candidates: Iterable[Candidate]) -> str:
    items = {candidate.spec.items for candidate in candidates}
    return items.pop() if len(items) == 1 else "items"


def length_word(candidates: Iterable[Candidate]) -> str:
    """What the batch is multiplied by, in small letters: `sequence`; `length` of several, empty of none."""
    words = {_length_axis(spec).heading.lower() for spec in specs_of(candidates) if spec.items_axis}
    return words.pop() if len(words) == 1 else "length" if words else ""


def _length_axis(spec: WorkloadSpec) -> Axis:
    assert spec.items_axis is not None
    return spec.by_name[spec.items_axis]


def setting_axes(candidates: Iterable[Candidate]) -> tuple[Axis, ...]:
    """The axes on which candidates of one cell differ, each name once."""
    specs = specs_of(candidates)
    found = {
        axis.name: axis
        for spec in specs
        for axis in spec.axes
        if not axis.is_cell_key and not axis.is_of_model
    }
    return tuple(found.values())


def model_axes(candidates: Iterable[Candidate]) -> tuple[Axis, ...]:
    """The axes that belong to a model's name, each name once."""
    specs = specs_of(candidates)
    return tuple({axis.name: axis for spec in specs for axis in spec.axes if axis.is_of_model}.values())


def settings_of(candidate: Candidate) -> str:
    """All but the model in a sentence: `batch 8, sequence 256, fast kernels, precision bf16`."""
    axes = (axis for axis in candidate.spec.axes if not axis.is_of_model)
    said = (axis.say_in_sentence(candidate.axes[axis.name]) for axis in axes)
    return ", ".join((f"batch {candidate.batch_size}", *(text for text in said if text)))


def rate_of(point: Point) -> str:
    """What the rate of a point counts."""
    return rate_unit([point.candidate])


@functools.cache
def model_order(workload: str, model: str) -> tuple[str, float, str]:
    """Models by workload, then by size, then what has none, by name."""
    spec = known_spec(workload)
    size = float("inf") if spec is None or spec.model_size is None else spec.model_size(model)
    return workload, size, model
