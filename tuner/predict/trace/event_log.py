"""The log that a tracer writes: what is allocated and freed, when, for which block and to what end."""

from __future__ import annotations

from typing import NamedTuple

from .events import FREE, GLOBAL, Category, Event, Phase
from .scratch import ScratchOf

UNKNOWN = -2
"""Unit of an allocation of the optimizer until the next one whose unit is known: its parameter's."""


class Mark(NamedTuple):
    """A place in the log: categories by slot, and the unit of what came next."""

    categories: tuple[Category, ...]
    unit: int


class EventLog:
    """Events in order. `phase`, `unit` and `category` are those of what comes next.

    categories: by slot; copies: slots that stand for the same memory in a step that was not run.
    """

    def __init__(self) -> None:
        self.phase: Phase = "setup"
        self.unit = 0
        self.category: Category = "weights"
        self.categories: list[Category] = []
        self.unit_of_slot: list[int] = []
        self.copies: dict[int, list[int]] = {}
        self._events: list[Event] = []
        self._unresolved: list[int] = []

    def mark(self) -> Mark:
        """Where `rewind` goes back to: behind the events that were taken."""
        return Mark(tuple(self.categories), self.unit)

    def rewind(self, mark: Mark) -> None:
        """Forget all that came after a mark made in the setup; what was handed out stays as it is."""
        self.categories = list(mark.categories)
        del self.unit_of_slot[len(mark.categories) :]
        self.copies, self._events, self._unresolved = {}, [], []
        self.phase, self.unit = "setup", mark.unit

    @property
    def position(self) -> int:
        """How many events there are since `take`."""
        return len(self._events)

    def since(self, position: int) -> list[Event]:
        """The events from a position on."""
        return self._events[position:]

    def allocate(
        self,
        size_bytes: int,
        name: str,
        unit: int,
        growth_bytes: int = 0,
        scratch: ScratchOf | None = None,
    ) -> int:
        """Log an allocation; returns its slot."""
        slot = len(self.unit_of_slot)
        if unit == UNKNOWN:
            self._unresolved.append(len(self._events))
        elif self._unresolved:
            self._resolve(unit)
        self.unit_of_slot.append(unit)
        self.categories.append(self.category)
        self._events.append(Event(slot, size_bytes, name, self.phase, unit, growth_bytes, scratch))
        return slot

    def free(self, slot: int, name: str) -> None:
        """Log a free. What the optimizer frees, and the setup, is freed parameter by parameter."""
        unit = self.unit_of_slot[slot] if self.phase in ("optimizer", "setup") else self.unit
        self._events.append(Event(slot, FREE, name, self.phase, unit))

    def new_slot_like(self, slot: int) -> int:
        """A slot for the same memory in a step that was not run."""
        copy = len(self.unit_of_slot)
        self.unit_of_slot.append(self.unit_of_slot[slot])
        self.categories.append(self.categories[slot])
        self.copies.setdefault(slot, []).append(copy)
        return copy

    def set_category(self, slot: int, category: Category) -> None:
        """Correct what a slot is for, and its copies."""
        for like in (slot, *self.copies.get(slot, ())):
            self.categories[like] = category

    def take(self) -> list[Event]:
        """The events since the last call."""
        self._resolve(GLOBAL)
        events, self._events = self._events, []
        return events

    def _resolve(self, unit: int) -> None:
        for index in self._unresolved:
            event = self._events[index]
            self._events[index] = event._replace(unit=unit)
            self.unit_of_slot[event.slot] = unit
        self._unresolved = []
