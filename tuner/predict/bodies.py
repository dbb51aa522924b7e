"""What the body of a custom operation did, to be written down again without running it.

Everything that a body allocates, launches and returns follows from the layouts of its arguments and from the
GPU's limits. A process traces many models with the same few operations, each block of each of them alike; a
head's body of a thousand chunks is gone through once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .event_log import EventLog
from .events import FREE, Cost, Event
from .scratch import ScratchOf

Bodies = dict[Any, "Body | None"]
"""Operation, layouts of its arguments and what is held beside them → its body; None for one to be run."""


class _Step(NamedTuple):
    """An allocation, or the free (FREE) of an earlier one; `place` counts the body's allocations."""

    place: int
    size_bytes: int
    op: str
    scratch: ScratchOf | None


class _Output(NamedTuple):
    """A tensor that fills the memory of one of the body's allocations."""

    place: int
    op: str
    size: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """kind: of the sequence of outputs, None for one output alone."""

    steps: tuple[_Step, ...]
    outputs: tuple[_Output | None, ...]
    kind: type | None
    costs: dict[str, Cost]

    def log(self, log: EventLog) -> list[int]:
        """Write its events down again, as of now; returns the slots of its allocations."""
        slots: list[int] = []
        for place, size, op, scratch in self.steps:
            if size == FREE:
                log.free(slots[place], op)
            else:
                slots.append(log.allocate(size, op, log.unit, scratch=scratch))
        return slots


def body_of(
    events: Sequence[Event],
    result: Any,
    slot_of: Mapping[int, tuple[Any, int]],
    costs: Mapping[tuple[str, int], Cost],
    unit: int,
) -> Body | None:
    """The body that left these events and costs and this result.

    slot_of: storage → (its reference, its slot). unit: the block that called it.
    None where it freed what others made, kept something to itself, returned a part of something, or did
    anything for another block.
    """
    steps: list[_Step] = []
    places: dict[int, tuple[int, str]] = {}
    for event in events:
        if event.size_bytes == FREE:
            if event.slot not in places:
                return None
        elif event.size_bytes < 0 or event.unit != unit:
            return None
        else:
            places[event.slot] = len(places), event.op
        steps.append(_Step(places[event.slot][0], event.size_bytes, event.op, event.scratch))
    is_list = isinstance(result, (list, tuple))
    outputs: list[_Output | None] = []
    for value in tuple(result) if is_list else (result,):
        if value is None:
            outputs.append(None)
            continue
        output = _output(value, slot_of, places) if isinstance(value, Tensor) else None
        if output is None:
            return None
        outputs.append(output)
    kept = set(range(len(places))) - {step.place for step in steps if step.size_bytes == FREE}
    returned = [output.place for output in outputs if output is not None]
    if sorted(returned) != sorted(kept) or any(of != unit for _, of in costs):
        return None
    return Body(
        steps=tuple(steps),
        outputs=tuple(outputs),
        kind=type(result) if is_list else None,
        costs={name: cost for (name, _), cost in costs.items()},
    )


def _output(
    tensor: Tensor, slot_of: Mapping[int, tuple[Any, int]], places: Mapping[int, tuple[int, str]]
) -> _Output | None:
    storage = tensor.untyped_storage()
    known = slot_of.get(storage._cdata)
    if known is None or known[1] not in places:
        return None
    if storage.nbytes() != tensor.numel() * tensor.element_size():
        return None
    return _Output(*places[known[1]], tensor.shape, tensor.stride(), tensor.dtype)
