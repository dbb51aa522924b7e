"""A deep model's events from three blocks, and a second step's from the first: equal to what is traced."""

from __future__ import annotations

import pytest

from phase8_tune.tuner.predict.fit.depth import NotRepeatableError, deepen
from phase8_tune.tuner.predict.fit.line import total_costs
from phase8_tune.tuner.predict.trace.events import FREE, Cost, Event, Trace

from .traces import VERSIONS, canonical, traced


def deep_trace(trace: Trace, depth: int) -> Trace:
    """The deepened events as a trace."""
    sizes = {event.slot: event for part in trace.parts() for event in part if event.size_bytes != FREE}
    categories: dict[int, str] = {}
    parts = []
    for part, deep in zip(trace.parts(), deepen(trace, depth), strict=True):
        events = []
        for slot, source in zip(deep.slots.tolist(), deep.sources.tolist(), strict=True):
            event = part[source]
            size = event.size_bytes
            if size >= 0:
                size += event.growth_bytes * (depth - trace.depth)
            categories[slot] = trace.categories[event.slot]
            events.append(Event(slot, size, event.op, event.phase, event.unit))
        parts.append(events)
    assert sizes
    numbered = [categories.get(slot, "weights") for slot in range(max(categories) + 1)]
    setup, first, repeat, evaluation = parts
    return Trace(
        depth=depth,
        setup=setup,
        first=first,
        repeat=repeat,
        evaluation=evaluation,
        categories=numbered,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("mode", ["train", "forward"])
@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("version", VERSIONS)
def test_deepened_events_are_those_of_the_deep_model(version, checkpointing, mode):
    options = {"checkpointing": checkpointing, "mode": mode, "precision": "fp16"}
    whole = traced(version, depth=5, **options)
    assert canonical(deep_trace(traced(version, depth=3, **options), 5)) == canonical(whole)


@pytest.mark.parametrize("version", VERSIONS)
def test_costs_grow_with_the_depth(version):
    deep, whole = total_costs(traced(version), 5), total_costs(traced(version, depth=5), 5)
    assert deep.keys() == whole.keys()
    for name, cost in whole.items():
        assert deep[name].flops == cost.flops
        assert deep[name].launches == cost.launches
        # Norms of all gradients are stacked in one operation that no block owns: 4 bytes a parameter
        assert deep[name].moved_bytes == pytest.approx(cost.moved_bytes, rel=1e-4)


@pytest.mark.parametrize("precision", ["fp16", "none"])
@pytest.mark.parametrize("version", VERSIONS)
def test_second_step_is_the_first_without_what_stays(version, precision):
    derived = traced(version, precision=precision, steps=1)
    assert canonical(derived) == canonical(traced(version, precision=precision, steps=2))


def test_a_trace_of_the_whole_depth_is_kept():
    trace = traced(depth=2)
    assert [part.slots.tolist() for part in deepen(trace, 2)] == [
        [event.slot for event in part] for part in trace.parts()
    ]


def test_memory_passed_over_two_blocks_is_refused():
    events = [Event(unit, 8, "made", "forward", unit) for unit in range(3)]
    frees = [Event(0, FREE, "made", "forward", 2)]
    trace = Trace(depth=3, first=[*events, *frees], categories=["activations"] * 3)
    with pytest.raises(NotRepeatableError, match="not neighbours"):
        deepen(trace, 4)


def testtotal_costs_count_the_middle_block_for_all_like_it():
    trace = Trace(depth=3, costs={("gemm", unit): Cost(flops=1.0, launches=1.0) for unit in (-1, 0, 1, 2)})
    assert total_costs(trace, 10)["gemm"] == Cost(flops=11.0, launches=11.0)
