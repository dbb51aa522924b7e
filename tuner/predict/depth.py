"""The trace of a deep model from that of three blocks: the middle block's events, repeated.

Blocks are alike, so what is traced of the second of three blocks happens for every block between the first
and the last. An event refers to memory of its own block or of a neighbour; a neighbour's is matched by its
place in that block's run of allocations. Tests hold the result against traces of the full depth, event by
event.
"""

from __future__ import annotations

from collections.abc import Sequence

from .events import FREE, GLOBAL, WORKSPACE, Category, Cost, Event, Phase, Trace

TRACED_DEPTH = 3
_FIRST, _MIDDLE, _LAST = 0, 1, 2


class NotRepeatableError(Exception):
    """The trace is not made of like blocks; trace the whole depth instead."""


def deepen(trace: Trace, depth: int) -> Trace:
    """The trace that the same model with `depth` blocks leaves, from one of TRACED_DEPTH blocks.

    Raises: NotRepeatableError where blocks differ or depend on blocks further away.
    """
    if trace.depth != TRACED_DEPTH:
        raise ValueError(f"trace: expected {TRACED_DEPTH} blocks, got {trace.depth}")
    if depth < TRACED_DEPTH:
        raise NotRepeatableError(f"a model of {depth} blocks has no middle block")
    return _Deepening(trace, depth).result()


class _Deepening:
    def __init__(self, trace: Trace, depth: int) -> None:
        self.trace = trace
        self.depth = depth
        self.new_slots: dict[tuple[int, int], int] = {}
        self.categories: list[Category] = []
        self.unit_of: dict[int, int] = {}
        self.alike_above: dict[int, int] = {}  # slot of the first block → the middle block's
        self.alike_below: dict[int, int] = {}  # slot of the last block → the middle block's
        for part in trace.parts():
            self._match(part)

    def result(self) -> Trace:
        parts = [self._repeat(part) for part in self.trace.parts()]
        costs: dict[tuple[str, int], Cost] = {}
        for (name, unit), cost in self.trace.costs.items():
            times = self.depth - 2 if unit == _MIDDLE else 1
            total = costs.setdefault((name, GLOBAL), Cost())
            total.add(cost.flops * times, cost.moved_bytes * times, cost.launches * times)
        return Trace(
            depth=self.depth, setup=parts[0], first=parts[1], repeat=parts[2],
            categories=self.categories, costs=costs,
        )  # fmt: skip

    def _match(self, part: Sequence[Event]) -> None:
        """Pair the neighbours' allocations with the middle block's, phase by phase.

        The first block's run has more at its outer end (the embedding), the last one's too (the head): the
        runs are aligned at the ends where they meet the middle block's.
        """
        runs: dict[tuple[Phase, int], list[Event]] = {}
        for event in part:
            if event.size_bytes != FREE:
                self.unit_of[event.slot] = event.unit
                if event.unit != GLOBAL and event.size_bytes != WORKSPACE:
                    runs.setdefault((event.phase, event.unit), []).append(event)
        for phase in {phase for phase, _ in runs}:
            middle = runs.get((phase, _MIDDLE), [])
            # Backward, the head comes before the last block and the embedding after the first
            self._pair(runs.get((phase, _FIRST), []), middle, self.alike_above, from_end=phase != "backward")
            self._pair(runs.get((phase, _LAST), []), middle, self.alike_below, from_end=phase == "backward")

    @staticmethod
    def _pair(
        outer: Sequence[Event], middle: Sequence[Event], alike: dict[int, int], *, from_end: bool
    ) -> None:
        if from_end:
            outer, middle = outer[::-1], middle[::-1]
        for theirs, ours in zip(outer, middle, strict=False):
            if theirs.size_bytes != ours.size_bytes or theirs.op != ours.op:
                break  # the block ends here; what is beyond has no counterpart
            alike[theirs.slot] = ours.slot

    def _repeat(self, part: Sequence[Event]) -> list[Event]:
        repeated: list[Event] = []
        seen: set[Phase] = set()
        index = 0
        while index < len(part):
            event = part[index]
            if event.unit != _MIDDLE:
                repeated.append(self._renamed(event, self._new_unit(event.unit)))
                index += 1
                continue
            end = index
            while end < len(part) and part[end].unit == _MIDDLE and part[end].phase == event.phase:
                end += 1
            if event.phase in ("forward", "backward"):
                if event.phase in seen:
                    raise NotRepeatableError(f"the middle block has two runs in the {event.phase} pass")
                seen.add(event.phase)
            descends = index > 0 and part[index - 1].unit == _LAST
            descends = descends or (end < len(part) and part[end].unit == _FIRST)
            order = range(1, self.depth - 1)
            for unit in reversed(order) if descends else order:
                repeated += [self._renamed(one, unit) for one in part[index:end]]
            index = end
        return repeated

    def _new_unit(self, unit: int) -> int:
        return self.depth - 1 if unit == _LAST else unit

    def _renamed(self, event: Event, unit: int) -> Event:
        """The event as it happens in block `unit` of the deep model."""
        slot = event.slot
        owner = self.unit_of[slot]
        if event.size_bytes != FREE:
            size = event.size_bytes + event.growth_bytes * (self.depth - TRACED_DEPTH)
            new = self._new_slot(slot, unit)
            return Event(new, size, event.op, event.phase, unit)
        place = self._new_unit(owner)
        if event.unit == _MIDDLE and owner == _MIDDLE:
            place = unit
        elif event.unit == _MIDDLE and owner == _FIRST:
            place = unit - 1
            if place != 0:
                slot = self._alike(self.alike_above, slot)
        elif event.unit == _MIDDLE and owner == _LAST:
            place = unit + 1
            if place != self.depth - 1:
                slot = self._alike(self.alike_below, slot)
        elif owner == _MIDDLE:
            place = self.depth - 2 if event.unit == _LAST else 1
        elif {owner, event.unit} == {_FIRST, _LAST} and (
            slot in self.alike_above or slot in self.alike_below
        ):
            raise NotRepeatableError("blocks share memory that are not neighbours")
        return Event(self._known_slot(slot, place), FREE, event.op, event.phase, unit)

    def _alike(self, alike: dict[int, int], slot: int) -> int:
        if slot not in alike:
            raise NotRepeatableError("a block frees memory of its neighbour that has no counterpart")
        return alike[slot]

    def _new_slot(self, slot: int, unit: int) -> int:
        new = self.new_slots[slot, unit] = len(self.categories)
        self.categories.append(self.trace.categories[slot])
        return new

    def _known_slot(self, slot: int, unit: int) -> int:
        try:
            return self.new_slots.pop((slot, unit))
        except KeyError:
            raise NotRepeatableError("memory is freed that its block has not") from None
