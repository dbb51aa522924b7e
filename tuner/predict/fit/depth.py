"""The events of a deep model from those of three blocks: the middle block's, repeated.

Blocks are alike, so what is traced of the second of three blocks happens for every block between the first
and the last. An event refers to memory of its own block or of a neighbour; a neighbour's is matched by its
place in that block's run of allocations. Tests hold the result against traces of the full depth, event by
event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..trace.events import FREE, GLOBAL, Event, Phase, Trace

TRACED_DEPTH = 3
_FIRST, _MIDDLE, _LAST = 0, 1, 2
Ints = npt.NDArray[np.int64]


class NotRepeatableError(Exception):
    """The trace is not made of like blocks; trace the whole depth instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepPart:
    """One part of the deep model's events: `slots` as in `Event`, `sources` the traced event each repeats."""

    slots: Ints
    sources: Ints


def deepen(trace: Trace, depth: int) -> list[DeepPart]:
    """The events that the same model with `depth` blocks leaves, part by part.

    trace: of TRACED_DEPTH blocks, or of `depth` blocks, which is then returned as it is.
    Raises: NotRepeatableError where blocks differ or depend on blocks further away.
    """
    if trace.depth == depth:
        return [
            DeepPart(slots=np.array([e.slot for e in part], dtype=np.int64), sources=np.arange(len(part)))
            for part in trace.parts()
        ]
    if trace.depth != TRACED_DEPTH or depth < TRACED_DEPTH:
        raise NotRepeatableError(f"{trace.depth} blocks were traced, {depth} are asked for")
    parts = _Repetition(trace, depth).parts()
    _check(trace, parts)
    return parts


def _check(trace: Trace, parts: Sequence[DeepPart]) -> None:
    """Every slot is allocated once before it is freed once."""
    frees = [np.array([e.size_bytes == FREE for e in part], dtype=bool) for part in trace.parts()]
    signs = np.concatenate(
        [np.where(free[part.sources], -1, 1) for free, part in zip(frees, parts, strict=True)]
    )
    slots = np.concatenate([part.slots for part in parts])
    order = np.argsort(slots, kind="stable")
    slots, signs = slots[order], signs[order]
    starts = np.ones(len(slots), dtype=bool)
    starts[1:] = slots[1:] != slots[:-1]
    if not np.array_equal(signs == 1, starts) or np.any(signs[1:][~starts[1:]] + signs[:-1][~starts[1:]]):
        raise NotRepeatableError("memory is freed that its block has not")


class _Repetition:
    """Slots of the deep model are numbered slot + place·stride, place the block that owns the memory."""

    def __init__(self, trace: Trace, depth: int) -> None:
        self.trace = trace
        self.depth = depth
        self.stride = len(trace.categories)
        self.unit_of: dict[int, int] = {}
        self.alike: dict[int, int] = {}  # slot of the first or last block → the middle block's
        for part in trace.parts():
            self._match(part)

    def _match(self, part: Sequence[Event]) -> None:
        """Pair the neighbours' allocations with the middle block's, phase by phase.

        The first block's run has more at its outer end (the embedding), the last one's too (the head): the
        runs are aligned at the ends where they meet the middle block's. Backward, the head comes before the
        last block and the embedding after the first.
        """
        runs: dict[tuple[Phase, int], list[Event]] = {}
        for event in part:
            if event.size_bytes != FREE:
                self.unit_of[event.slot] = event.unit
                if event.unit != GLOBAL and event.size_bytes >= 0:
                    runs.setdefault((event.phase, event.unit), []).append(event)
        for phase in {phase for phase, _ in runs}:
            middle = runs.get((phase, _MIDDLE), [])
            self._pair(runs.get((phase, _FIRST), []), middle, from_end=phase != "backward")
            self._pair(runs.get((phase, _LAST), []), middle, from_end=phase == "backward")

    def _pair(self, outer: Sequence[Event], middle: Sequence[Event], *, from_end: bool) -> None:
        if from_end:
            outer, middle = outer[::-1], middle[::-1]
        for theirs, ours in zip(outer, middle, strict=False):
            if theirs.op != ours.op:
                break  # not a block like the middle one: what is beyond has no counterpart
            self.alike[theirs.slot] = ours.slot

    def parts(self) -> list[DeepPart]:
        return [self._repeat(part) for part in self.trace.parts()]

    def _repeat(self, part: Sequence[Event]) -> DeepPart:
        slots: list[Ints] = [np.zeros(0, dtype=np.int64)]
        sources: list[Ints] = [np.zeros(0, dtype=np.int64)]
        seen: set[Phase] = set()
        index = 0
        while index < len(part):
            event, end = part[index], index
            inside = event.unit == _MIDDLE
            while end < len(part) and (part[end].unit == _MIDDLE) == inside and (
                not inside or part[end].phase == event.phase
            ):  # fmt: skip
                end += 1
            run = np.arange(index, end)
            if not inside:
                slots.append(np.array([self._outside(e) for e in part[index:end]], dtype=np.int64))
                sources.append(run)
                index = end
                continue
            if event.phase in ("forward", "backward"):
                if event.phase in seen:
                    raise NotRepeatableError(f"the middle block has two runs in the {event.phase} pass")
                seen.add(event.phase)
            descends = index > 0 and part[index - 1].unit == _LAST
            descends = descends or (end < len(part) and part[end].unit == _FIRST)
            columns = self._inside(part[index:end])
            units = range(1, self.depth - 1)
            for unit in reversed(units) if descends else units:
                slots.append(self._of_unit(columns, unit))
                sources.append(run)
            index = end
        return DeepPart(slots=np.concatenate(slots), sources=np.concatenate(sources))

    def _outside(self, event: Event) -> int:
        """The slot of an event of the first block, of the last one, or of none."""
        owner = self.unit_of[event.slot]
        if event.size_bytes == FREE and {owner, event.unit} == {_FIRST, _LAST} and event.slot in self.alike:
            raise NotRepeatableError("blocks share memory that are not neighbours")
        if owner == _MIDDLE:
            place = self.depth - 2 if event.unit == _LAST else 1
        else:
            place = self.depth - 1 if owner == _LAST else 0
        return event.slot + place * self.stride

    def _inside(self, run: Sequence[Event]) -> tuple[Ints, Ints, Ints]:
        """Of a run of the middle block: slots, their counterparts in it, how far away their owners are."""
        owners = [self.unit_of[e.slot] for e in run]
        if GLOBAL in owners:
            raise NotRepeatableError("a block frees memory that belongs to none")
        steps = [owner - _MIDDLE for owner in owners]
        missing = [e.slot for e, step in zip(run, steps, strict=True) if step and e.slot not in self.alike]
        if missing:
            raise NotRepeatableError("a block frees memory of its neighbour that has no counterpart")
        own = [self.alike[e.slot] if step else e.slot for e, step in zip(run, steps, strict=True)]
        slots = np.array([e.slot for e in run], dtype=np.int64)
        return slots, np.array(own, dtype=np.int64), np.array(steps, dtype=np.int64)

    def _of_unit(self, columns: tuple[Ints, Ints, Ints], unit: int) -> Ints:
        slots, own, steps = columns
        places = unit + steps
        is_edge = (steps != 0) & ((places == 0) | (places == self.depth - 1))
        deep: Ints = np.where(is_edge, slots, own) + places * self.stride
        return deep
