"""One line of candidates, all batches of one model, from a few traces: every size as a + b·batch.

Say that a tensor takes 10,240 bytes at a batch of 2, and 73,728 at 64: that is 8,192 + 1,024·batch. A third
trace checks it: at a batch of 8 it has to be 16,384, to the byte. Single allocations are straight in the
batch, peaks are not, because they move from one phase to another: so the events are kept, with their sizes,
and replayed for each batch.

Where it is not that simple:
- Scratch memory that goes in steps (`trace/scratch.py`) is described by numbers that are straight, and its
  size is worked out from them.
- Where a size bends (a buffer that stops growing), the batch itself is traced. (A buffer of so much a tile is
  straight in whole tiles only: at odd batches it may be part of a tile off.)
- A batch of one has its own events: what is contiguous then need not be copied. So batches share a structure
  only where their events are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from itertools import pairwise

from ..trace.events import Cost, Event, Trace
from ..trace.reductions import Processors
from ..trace.scratch import ScratchOf, numbers_of, scratch_bytes, with_numbers
from .depth import TRACED_DEPTH, NotRepeatableError, deepen

Tracing = Callable[[int, int], Trace]
"""(batch, number of blocks) → trace."""
Costs = dict[str, Cost]
"""Class of operations → its work in one step of the whole model."""
FitBatches = tuple[int, int, int]
FIT_BATCHES: FitBatches = (2, 8, 64)
"""The outer two are fitted, the middle one checks: far apart, so that a size that bends is noticed."""

_OF_NOTE = 0.001
"""Of the sum of all classes, what one may be off by whatever its own share is."""
_COST_TOLERANCE = 0.02
"""Some classes of costs are sums of whichever is larger of two, and bend slightly."""


@dataclass(kw_only=True, slots=True)
class Line:
    """All batches of one model: exact for those traced, fitted for the others where sizes are straight.

    structures: what its batches do; traced: by batch, what it adds to one of these. fitted: the outer two of
    the batches that were fitted, None where sizes bend. processors: of the GPU that is traced for.
    """

    processors: Processors
    structures: list[Structure] = field(default_factory=list)
    traced: dict[int, BatchSizes] = field(default_factory=dict)
    fitted: tuple[int, int] | None = None

    def is_tried(self, batches: FitBatches) -> bool:
        """Whether it is known if it can be fitted to these."""
        return all(batch in self.traced for batch in batches)

    def at(self, batch: int) -> BatchSizes | None:
        """Sizes at a batch, None where it has to be traced."""
        if batch in self.traced or self.fitted is None or batch < min(self.fitted):
            return self.traced.get(batch)
        low, high = self.fitted
        first, second = self.traced[low], self.traced[high]

        def straight(at_low: int, at_high: int) -> int:
            return at_low + (at_high - at_low) * (batch - low) // (high - low)

        sizes = list(map(straight, first.sizes, second.sizes))
        numbers = list(map(straight, first.numbers, second.numbers))
        for index, size in self._stepped(self.structures[first.structure], numbers):
            sizes[index] = size
        return BatchSizes(
            structure=first.structure, sizes=sizes, costs=self._costs_at(batch), numbers=numbers
        )

    def _stepped(self, structure: Structure, numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Sizes that go in steps, each with its index."""
        start = 0
        for index, scratch in structure.scratch.items():
            end = start + len(numbers_of(scratch.source))
            source = with_numbers(scratch.source, tuple(numbers[start:end]))
            yield index, scratch_bytes(ScratchOf(source, scratch.buffer), self.processors)
            start = end

    def _costs_at(self, batch: int) -> Costs:
        """On the piece of the line that the batch lies on, or on its last: costs may bend slightly."""
        assert self.fitted is not None
        first, last = self.fitted
        names = self.traced[first].costs.keys()
        ends = [b for b in sorted(self.traced) if first <= b <= last and self.traced[b].costs.keys() == names]
        low, high = next(pair for pair in reversed(list(pairwise(ends))) if pair[0] <= batch)
        share = (batch - low) / (high - low)
        others = self.traced[high].costs
        return {name: _between(cost, others[name], share) for name, cost in self.traced[low].costs.items()}


@dataclass(kw_only=True, slots=True)
class Structure:
    """The events that some batches have in common; `Event.size_bytes` is an index into their sizes.

    growth_bytes: by size, what each block beyond the traced depth adds to it. scratch: by size, what it
    follows from at the traced batch, for those that go in steps.
    """

    trace: Trace
    depth: int
    growth_bytes: list[int]
    scratch: dict[int, ScratchOf] = field(default_factory=dict)

    def whole(self, sizes: Sequence[int]) -> list[int]:
        """The sizes, in bytes, in the whole model."""
        extra = self.depth - self.trace.depth
        return [size + extra * growth for size, growth in zip(sizes, self.growth_bytes, strict=True)]


@dataclass(kw_only=True, slots=True)
class BatchSizes:
    """What one batch adds to a structure: its sizes in bytes, its costs, and the numbers from which the sizes
    follow that go in steps, one list for all of them in order.
    """

    structure: int
    sizes: list[int]
    costs: Costs
    numbers: list[int]


def fit_line(line: Line, tracing: Tracing, depth: int, batches: FitBatches = FIT_BATCHES) -> None:
    """Trace those of three batches that are not yet, and set `fitted` where their sizes are straight.

    depth: number of blocks of the model.
    """
    for batch in batches:
        if batch not in line.traced:
            trace_batch(line, batch, tracing, depth)
    if line.fitted is None or line.fitted[0] > batches[0]:
        _fit(line, batches)


def _fit(line: Line, batches: FitBatches) -> None:
    low, middle, high = batches
    kinds = {(line.traced[batch].structure, frozenset(line.traced[batch].costs)) for batch in batches}
    if len(kinds) > 1:
        return
    before, line.fitted = line.fitted, (low, high)
    check = line.traced.pop(middle)
    fitted = line.at(middle)
    line.traced[middle] = check
    if fitted is None or not _agree(fitted, check):
        line.fitted = before


def trace_batch(line: Line, batch: int, tracing: Tracing, depth: int) -> BatchSizes:
    """Trace one batch: so many blocks as stand for all, found with the first one.

    depth: number of blocks of the model.
    """
    if line.structures:
        return add_trace(line, batch, tracing(batch, line.structures[0].trace.depth), depth)
    trace = tracing(batch, min(TRACED_DEPTH, depth))
    if depth > TRACED_DEPTH and not _repeats(trace, depth):
        trace = tracing(batch, depth)
    return add_trace(line, batch, trace, depth)


def add_trace(line: Line, batch: int, trace: Trace, depth: int) -> BatchSizes:
    """Add the trace of one batch: to a structure that has its events, or as a new one."""
    sized = _sized(trace)
    alike = (n for n, structure in enumerate(line.structures) if _same_events(structure, trace))
    number = next(alike, len(line.structures))
    if number == len(line.structures):
        line.structures.append(_structure(trace, depth))
    line.traced[batch] = BatchSizes(
        structure=number,
        sizes=[event.size_bytes for event in sized],
        costs=total_costs(trace, depth),
        numbers=[n for event in sized if event.scratch for n in numbers_of(event.scratch.source)],
    )
    return line.traced[batch]


def total_costs(trace: Trace, depth: int) -> Costs:
    """The work of a step of `depth` blocks: the middle block's counts for all that are like it."""
    totals: Costs = {}
    for (name, unit), cost in trace.costs.items():
        times = depth - trace.depth + 1 if unit == 1 and depth > trace.depth else 1
        totals.setdefault(name, Cost()).add(
            cost.flops * times, cost.moved_bytes * times, cost.launches * times
        )
    return totals


def _between(first: Cost, second: Cost, share: float) -> Cost:
    return Cost(
        flops=first.flops + (second.flops - first.flops) * share,
        moved_bytes=first.moved_bytes + (second.moved_bytes - first.moved_bytes) * share,
        launches=first.launches + (second.launches - first.launches) * share,
    )


def _agree(fitted: BatchSizes, traced: BatchSizes) -> bool:
    """Sizes to the byte; costs, of which a throughput is estimated, nearly, where they are of note."""
    if fitted.sizes != traced.sizes or fitted.numbers != traced.numbers:
        return False
    totals = [sum(amounts) for amounts in zip(*map(astuple, traced.costs.values()), strict=True)]
    return all(
        math.isclose(ours, theirs, rel_tol=_COST_TOLERANCE, abs_tol=_OF_NOTE * total)
        for name, cost in fitted.costs.items()
        for ours, theirs, total in zip(astuple(cost), astuple(traced.costs[name]), totals, strict=True)
    )


def _repeats(trace: Trace, depth: int) -> bool:
    """Whether three blocks stand for all."""
    try:
        deepen(trace, depth)
    except NotRepeatableError:
        return False
    return True


def _sized(trace: Trace) -> list[Event]:
    """The allocations whose size is the model's, in order."""
    return [event for part in trace.parts() for event in part if event.size_bytes >= 0]


def _same_events(structure: Structure, trace: Trace) -> bool:
    """Whether a trace differs from a structure in sizes alone."""
    for ours, theirs in zip(structure.trace.parts(), trace.parts(), strict=True):
        if len(ours) != len(theirs):
            return False
        if not all(map(_is_same, ours, theirs)):
            return False
    sized = enumerate(_sized(trace))
    return all(_differs_in_numbers(structure.scratch.get(index), event.scratch) for index, event in sized)


def _is_same(one: Event, other: Event) -> bool:
    if one.slot != other.slot or one.op != other.op or one.phase != other.phase or one.unit != other.unit:
        return False
    return min(one.size_bytes, other.size_bytes) >= 0 or one.size_bytes == other.size_bytes


def _differs_in_numbers(ours: ScratchOf | None, theirs: ScratchOf | None) -> bool:
    """Whether two sizes go in the same steps, at most at other numbers; or neither goes in steps."""
    if ours is None or theirs is None or type(ours.source) is not type(theirs.source):
        return ours is theirs
    numbers = numbers_of(ours.source)
    return (
        len(numbers) == len(numbers_of(theirs.source))
        and theirs._replace(source=with_numbers(theirs.source, numbers)) == ours
    )


def _structure(trace: Trace, depth: int) -> Structure:
    """Every allocation gets its own index: which of them are alike is not for one batch to say."""
    growth: list[int] = []
    scratch: dict[int, ScratchOf] = {}

    def indexed(event: Event) -> Event:
        if event.size_bytes < 0:
            return event
        if event.scratch is not None:
            scratch[len(growth)] = event.scratch
        growth.append(event.growth_bytes)
        return Event(event.slot, len(growth) - 1, event.op, event.phase, event.unit)

    setup, first, repeat, evaluation = ([indexed(event) for event in part] for part in trace.parts())
    template = Trace(
        depth=trace.depth,
        setup=setup,
        first=first,
        repeat=repeat,
        evaluation=evaluation,
        categories=trace.categories,
    )
    return Structure(trace=template, depth=depth, growth_bytes=growth, scratch=scratch)
