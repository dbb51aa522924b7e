"""The events of a deep model from those of three blocks: the middle block's, repeated.

Blocks are alike, so what the second of three blocks does, every block between the first and the last does.
Say that each block keeps one tensor going forward and frees it going back (+n allocates slot n, −n frees it):

    three blocks, traced   +0 +1 +2           −2 −1 −0
    five blocks            +0 +4 +7 +10 +14   −14 −10 −7 −4 −0

The middle block's run of events is written once for each block it stands for: upwards going forward,
downwards going back. A slot becomes slot + 3 · place: three slots were traced, `place` is the block that the
memory belongs to.

A block also frees what its neighbour made: going back, block 1 frees the gradient that block 2 made for it.
Where the middle block's run stands for block 2 of five, that has to be a gradient of block 3, which was not
traced: its counterpart is the allocation at the same place of the middle block's own run. So the first and
the last block's allocations are paired with the middle one's.

Tests hold the result against traces of the full depth, event by event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

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
        return [DeepPart(slots=_ints(e.slot for e in p), sources=np.arange(len(p))) for p in trace.parts()]
    if trace.depth != TRACED_DEPTH or depth < TRACED_DEPTH:
        raise NotRepeatableError(f"{trace.depth} blocks were traced, {depth} are asked for")
    repetition = _Repetition(trace, depth)
    parts = [repetition.of(part) for part in trace.parts()]
    _check_frees(trace, parts)
    return parts


class _Repetition:
    """Writes parts of a trace down for a deeper model.

    owner: the block that a slot belongs to. counterpart: of a slot of the first or the last block, the middle
    block's.
    """

    def __init__(self, trace: Trace, depth: int) -> None:
        self.depth = depth
        self.stride = len(trace.categories)
        events = [event for part in trace.parts() for event in part]
        self.owner = {event.slot: event.unit for event in events if event.size_bytes != FREE}
        self.counterpart: dict[int, int] = {}
        for part in trace.parts():
            self.counterpart |= _counterparts(part)

    def of(self, part: Sequence[Event]) -> DeepPart:
        """A part of the trace in the deep model."""
        slots: list[Ints] = [_ints(())]
        sources: list[Ints] = [_ints(())]
        seen: set[Phase] = set()
        for start, end in _runs(part):
            run = part[start:end]
            if run[0].unit != _MIDDLE:
                slots.append(_ints(map(self._outer_slot, run)))
                sources.append(np.arange(start, end))
                continue
            phase = run[0].phase
            if phase in seen and phase in ("forward", "backward"):
                raise NotRepeatableError(f"the middle block has two runs in the {phase} pass")
            seen.add(phase)
            columns = self._columns(run)
            for block in self._blocks(part, start, end):
                slots.append(self._slots_of_block(columns, block))
                sources.append(np.arange(start, end))
        return DeepPart(slots=np.concatenate(slots), sources=np.concatenate(sources))

    def _outer_slot(self, event: Event) -> int:
        """The slot of an event of the first block, of the last one, or of none."""
        owner = self.owner[event.slot]
        is_free = event.size_bytes == FREE
        if is_free and {owner, event.unit} == {_FIRST, _LAST} and event.slot in self.counterpart:
            raise NotRepeatableError("blocks share memory that are not neighbours")
        if owner == _MIDDLE:  # of the block beside the one that acts
            place = self.depth - 2 if event.unit == _LAST else 1
        else:
            place = self.depth - 1 if owner == _LAST else 0
        return event.slot + place * self.stride

    def _blocks(self, part: Sequence[Event], start: int, end: int) -> range:
        """The blocks that a run of the middle block stands for, as they come: downwards where the last block
        was before it, or the first comes after it."""
        comes_from_last = start > 0 and part[start - 1].unit == _LAST
        goes_to_first = end < len(part) and part[end].unit == _FIRST
        blocks = range(1, self.depth - 1)
        return blocks[::-1] if comes_from_last or goes_to_first else blocks

    def _columns(self, run: Sequence[Event]) -> tuple[Ints, Ints, Ints]:
        """Of a run of the middle block: slots, their counterparts in it, and how many blocks away their
        owners are: −1, 0 or 1."""
        owners = [self.owner[event.slot] for event in run]
        if GLOBAL in owners:
            raise NotRepeatableError("a block frees memory that belongs to none")
        steps = [owner - _MIDDLE for owner in owners]
        inner = []
        for event, step in zip(run, steps, strict=True):
            if step and event.slot not in self.counterpart:
                raise NotRepeatableError("a block frees memory of its neighbour that has no counterpart")
            inner.append(self.counterpart[event.slot] if step else event.slot)
        return _ints(event.slot for event in run), _ints(inner), _ints(steps)

    def _slots_of_block(self, columns: tuple[Ints, Ints, Ints], block: int) -> Ints:
        """The slots of the middle block's run where it stands for another block. What belongs to a neighbour
        is the counterpart's there, unless that neighbour is the first or the last block itself."""
        slots, inner, steps = columns
        places = block + steps
        is_outer = (steps != 0) & ((places == 0) | (places == self.depth - 1))
        deep: Ints = np.where(is_outer, slots, inner) + places * self.stride
        return deep


def _counterparts(part: Sequence[Event]) -> dict[int, int]:
    """Slots of the first and the last block's allocations → those of the middle block at the same place.

    The first block's run has more at its outer end (the embedding), and so has the last one's (the head):
    runs are aligned where they meet the middle block's. Going back the head comes before the last block, and
    the embedding after the first.
    """
    runs: dict[tuple[Phase, int], list[Event]] = {}
    for event in part:
        if event.unit != GLOBAL and event.size_bytes >= 0:
            runs.setdefault((event.phase, event.unit), []).append(event)
    found: dict[int, int] = {}
    for phase in {phase for phase, _ in runs}:
        middle = runs.get((phase, _MIDDLE), [])
        first, last = runs.get((phase, _FIRST), []), runs.get((phase, _LAST), [])
        found |= _paired(first, middle, from_end=phase != "backward")
        found |= _paired(last, middle, from_end=phase == "backward")
    return found


def _paired(outer: Sequence[Event], middle: Sequence[Event], *, from_end: bool) -> dict[int, int]:
    """Slots of one run → those of another, as far as both do the same."""
    if from_end:
        outer, middle = outer[::-1], middle[::-1]
    found = {}
    for theirs, ours in zip(outer, middle, strict=False):
        if theirs.op != ours.op:
            break  # not a block like the middle one: what is beyond has no counterpart
        found[theirs.slot] = ours.slot
    return found


def _runs(part: Sequence[Event]) -> Iterator[tuple[int, int]]:
    """Start and end of every stretch of events of the middle block in one phase, and of those between."""

    def kind(index: int) -> Phase | None:
        return part[index].phase if part[index].unit == _MIDDLE else None

    for _, run in groupby(range(len(part)), key=kind):
        indices = list(run)
        yield indices[0], indices[-1] + 1


def _check_frees(trace: Trace, parts: Sequence[DeepPart]) -> None:
    """Every slot is allocated once, and freed at most once after that.

    Raises: NotRepeatableError.
    """
    is_free = [np.array([e.size_bytes == FREE for e in part], dtype=bool) for part in trace.parts()]
    frees = np.concatenate([free[part.sources] for free, part in zip(is_free, parts, strict=True)])
    slots = np.concatenate([part.slots for part in parts])
    order = np.argsort(slots, kind="stable")  # the events of each slot, in their order
    slots, frees = slots[order], frees[order]
    is_first = np.ones(len(slots), dtype=bool)
    is_first[1:] = slots[1:] != slots[:-1]
    is_second_free = ~is_first[1:] & ~is_first[:-1]
    if not np.array_equal(~frees, is_first) or np.any(is_second_free):
        raise NotRepeatableError("memory is freed that its block has not")


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)
