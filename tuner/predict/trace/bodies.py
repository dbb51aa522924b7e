"""What the body of a custom operation did, to be written down again without running it.

Everything that a body allocates, launches and returns follows from the layouts of its arguments and from the
GPU's limits. A process traces many models with the same few operations, each block of each of them alike; a
head's body of a thousand chunks is gone through once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .event_log import EventLog
from .events import FREE, Cost, Event
from .operations import Outputs
from .scratch import ScratchOf

Bodies = dict[Any, "Body | None"]
"""Operation, layouts of its arguments and what is held beside them → its body; None for one to be run."""


class _Step(NamedTuple):
    """An allocation, or the free (FREE) of an earlier one; `place` counts the body's allocations."""

    place: int
    size_bytes: int
    op: str
    scratch: ScratchOf | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """returned: of every output that is a tensor, the place and the operation of the allocation it fills."""

    steps: tuple[_Step, ...]
    outputs: Outputs
    returned: tuple[tuple[int, str], ...]
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
    outputs: Outputs | None,
    slots: Sequence[int],
    costs: Mapping[tuple[str, int], Cost],
    unit: int,
) -> Body | None:
    """The body that left these events and costs.

    outputs: the layouts of its result, None where they cannot be made again. slots: of its tensors. unit: the
    block that called it.
    None, too, where it freed what others made, kept something to itself or did anything for another block.
    """
    steps: list[_Step] = []
    places: dict[int, tuple[int, str]] = {}
    kept: set[int] = set()
    for event in events:
        if event.size_bytes == FREE:
            if event.slot not in kept:
                return None
            kept.remove(event.slot)
        elif event.size_bytes < 0 or event.unit != unit:
            return None
        else:
            places[event.slot] = len(places), event.op
            kept.add(event.slot)
        steps.append(_Step(places[event.slot][0], event.size_bytes, event.op, event.scratch))
    if outputs is None or kept != set(slots) or any(of != unit for _, of in costs):
        return None
    return Body(
        steps=tuple(steps),
        outputs=outputs,
        returned=tuple(places[slot] for slot in slots),
        costs={name: cost for (name, _), cost in costs.items()},
    )
