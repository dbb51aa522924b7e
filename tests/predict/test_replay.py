"""Replaying events: peaks and their parts, the cap, and the schedule of a captured step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from phase8_tune.kernels.versions import CAPTURED_VERSIONS
from phase8_tune.tuner.predict.fit.line import Structure
from phase8_tune.tuner.predict.replay import program as program_module
from phase8_tune.tuner.predict.replay.address_space import AscendingAddresses
from phase8_tune.tuner.predict.replay.allocator import DEFAULT_STREAM, MIB, Block, CachingAllocator
from phase8_tune.tuner.predict.replay.program import Program
from phase8_tune.tuner.predict.trace.events import FREE, WORKSPACE, Category, Event, Trace, Workspaces

from .traces import VERSIONS, live_peak, traced

SIZES_MIB = [40, 30, 20]  # weights; an activation; the optimizer's state
MORE_MIB = 50  # of an evaluation, at once


def _structure(*, evaluates: bool = False) -> Structure:
    """Weights stay; a step makes and frees an activation beside a workspace; its first leaves a state.

    evaluates: an evaluation then makes and frees more at once than a step.
    """
    setup = [Event(0, 0, "weights", "setup", 0)]
    first = [
        Event(1, WORKSPACE, "blas", "forward", 0),
        Event(2, 1, "product", "forward", 0),
        Event(2, FREE, "product", "forward", 0),
        Event(3, 2, "zeros", "optimizer", -1),
    ]
    repeat = [Event(4, 1, "product", "forward", 0), Event(4, FREE, "product", "forward", 0)]
    categories: list[Category] = ["weights", "workspaces", "activations", "optimizer", "activations"]
    trace = Trace(depth=1, setup=setup, first=first, repeat=repeat, categories=categories)
    if evaluates:
        trace.evaluation = [Event(5, 3, "more", "forward", 0), Event(5, FREE, "more", "forward", 0)]
        trace.categories.append("activations")
    return Structure(trace=trace, depth=1, growth_bytes=[0] * (3 + evaluates))


def _replay(
    *, is_captured: bool = False, cap_mib: int | None = None, evaluates: bool = False, **options: Any
) -> Any:
    program = Program(_structure(evaluates=evaluates), is_captured=is_captured)
    cap = None if cap_mib is None else cap_mib * MIB
    sizes = [size * MIB for size in [*SIZES_MIB, *[MORE_MIB] * evaluates]]
    return program.replay(sizes, workspaces=Workspaces(10 * MIB, MIB), cap_bytes=cap, **options)


def test_peak_and_its_parts():
    peaks = _replay()
    assert peaks.allocated_bytes == (40 + 10 + 20 + 30) * MIB
    assert peaks.by_category["weights"] == 40 * MIB
    assert peaks.by_category["optimizer"] == 20 * MIB
    assert peaks.by_category["activations"] == 30 * MIB
    assert peaks.by_category["workspaces"] == 10 * MIB
    assert (peaks.peak_op, peaks.peak_phase) == ("product", "forward")
    # The state is cut off the activation's freed segment (20 of 30): the next activation needs a new one
    assert peaks.reserved_bytes == (40 + 10 + 30 + 30) * MIB


def test_the_cap_decides_and_not_the_peak():
    assert _replay(cap_mib=110).fits
    refused = _replay(cap_mib=109)
    assert not refused.fits
    assert refused.allocated_bytes == 100 * MIB  # what it would take at least


def test_a_captured_step_has_its_own_pool():
    """Eager steps on the side stream, then their cache is given back, and the graph takes its own segment.

    The state holds the side stream's first segment of 30 MiB, the second is given back. The graph takes 30
    MiB for its activation and 2 for its loss; the state of its random numbers takes 2, the copied batch and
    the returned loss share another 2.
    """
    peaks = _replay(is_captured=True, input_bytes=4096)
    assert peaks.allocated_bytes == 100 * MIB + 4096 + 2 * 512
    assert peaks.reserved_bytes == (40 + 10 + 30 + 30 + 2 + 2 + 2) * MIB


class Watched(CachingAllocator):
    """Notes MiB of its requests, those of the driver as negative numbers; `latest` is the one made last."""

    latest: Watched

    def __init__(self, cap_bytes: int | None = None, addresses: AscendingAddresses | None = None) -> None:
        super().__init__(cap_bytes, addresses)
        self.asked_mib: list[int] = []
        Watched.latest = self

    def allocate(self, size_bytes: int, stream: int = DEFAULT_STREAM) -> Block | None:
        self.asked_mib.append(size_bytes // MIB)
        return super().allocate(size_bytes, stream)

    def take_for_driver(self, size_bytes: int) -> None:
        self.asked_mib.append(-size_bytes // MIB)
        super().take_for_driver(size_bytes)


def test_an_eager_run_ends_with_a_step_that_needs_nothing_new(monkeypatch):
    """The first step's state took a part of the activation's block: the second needs a new one, the third
    does not. The matrix library comes with the first product."""
    monkeypatch.setattr(program_module, "CachingAllocator", Watched)
    _replay()
    assert Watched.latest.asked_mib == [40, -64, 10, 30, 20, 30, 30]


def test_where_every_step_asks_anew_the_run_ends_all_the_same(monkeypatch):
    monkeypatch.setattr(program_module, "CachingAllocator", Watched)
    monkeypatch.setattr(CachingAllocator, "free", lambda allocator, block: None)
    _replay()
    assert 3 < Watched.latest.asked_mib.count(30) < 10


def test_streams_are_made_before_a_captured_versions_first_step(monkeypatch):
    monkeypatch.setattr(program_module, "CachingAllocator", Watched)
    _replay(is_captured=True)
    assert Watched.latest.asked_mib[:35] == [40, *[-2] * 32, -64, 10]


def test_an_evaluation_comes_after_the_steps_and_as_often_as_it_needs_something_new(monkeypatch):
    """It takes a segment of its own: after another step, which takes none, it needs nothing new."""
    monkeypatch.setattr(program_module, "CachingAllocator", Watched)
    peaks = _replay(evaluates=True)
    assert Watched.latest.asked_mib == [40, -64, 10, 30, 20, 30, 30, 50, 30, 50]
    assert peaks.reserved_bytes == _replay().reserved_bytes + 50 * MIB
    assert peaks.allocated_bytes == (40 + 10 + 20 + 50) * MIB
    assert peaks.peak_op == "more"


def test_an_evaluation_beside_a_captured_step_is_in_the_graphs_pool():
    """Of the step's 30 MiB there nothing serves 50, and what the eager steps left is not the graph's."""
    steps, whole = (_replay(is_captured=True, evaluates=e).reserved_bytes for e in (False, True))
    assert whole == steps + 50 * MIB


def test_an_evaluation_of_which_the_graphs_pool_has_room_takes_none(monkeypatch):
    monkeypatch.setitem(globals(), "MORE_MIB", 29)
    steps, whole = (_replay(is_captured=True, evaluates=e).reserved_bytes for e in (False, True))
    assert whole == steps


def test_a_cap_that_the_evaluation_passes_is_passed():
    """Eager steps reserve 110 MiB. Under a cap of 130 the 30 that are cached make room for 50."""
    assert _replay(cap_mib=129).fits
    assert _replay(cap_mib=130, evaluates=True).fits
    assert not _replay(cap_mib=129, evaluates=True).fits


@pytest.mark.parametrize("version", VERSIONS)
def test_rounding_only_adds(version):
    trace = traced(version, batch=3)
    sizes = [event.size_bytes for part in trace.parts() for event in part if event.size_bytes >= 0]
    structure = Structure(trace=_indexed(trace), depth=3, growth_bytes=[0] * len(sizes))
    program = Program(structure, is_captured=version in CAPTURED_VERSIONS)
    live = program.live(sizes, Workspaces(0, 0))
    peaks = program.replay(sizes, workspaces=Workspaces(0, 0))
    assert peaks.reserved_bytes is not None
    assert live_peak(trace) <= live.allocated_bytes <= peaks.allocated_bytes <= peaks.reserved_bytes
    assert sum(live.by_category.values()) == live.allocated_bytes


def _indexed(trace: Trace) -> Trace:
    numbers = iter(range(10**9))
    parts = [
        [event if event.size_bytes < 0 else event._replace(size_bytes=next(numbers)) for event in part]
        for part in trace.parts()
    ]
    setup, first, repeat, evaluation = parts
    return replace(trace, setup=setup, first=first, repeat=repeat, evaluation=evaluation)
