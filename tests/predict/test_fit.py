"""A line of batches from three traces: where sizes are straight in the batch, and only there."""

from __future__ import annotations

import pytest

from phase8_tune.tuner.predict.fit.line import FIT_BATCHES, Line, add_trace
from phase8_tune.tuner.predict.fit.line_files import read_line, write_line
from phase8_tune.tuner.predict.replay.allocator import MIN_BLOCK_BYTES
from phase8_tune.tuner.predict.replay.program import Program
from phase8_tune.tuner.predict.trace.events import FREE, Cost, Event, Trace, Workspaces

from .traces import CONFIG, VERSIONS, trace_line, traced

WORKSPACES = Workspaces(1 << 20, 1 << 20)


def _line(version: str) -> Line:
    return trace_line(
        lambda batch, depth: traced(version, batch=batch, depth=depth, checkpointing="full"),
        CONFIG.n_layers,
    )


def _sizes(trace: Trace) -> list[int]:
    return [event.size_bytes for part in trace.parts() for event in part if event.size_bytes >= 0]


@pytest.mark.parametrize("batch", [4, 16, 17])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_fitted_batch_has_the_sizes_of_its_trace(version, batch):
    """To the byte at powers of two; elsewhere a kernel's buffer a tile each may be part of a tile off."""
    line = _line(version)
    sizes = line.at(batch)
    if sizes is None:
        assert line.fitted is None  # sizes bend: it has to be traced
        return
    whole = traced(version, batch=batch, checkpointing="full")
    off = [abs(ours - theirs) for ours, theirs in zip(sizes.sizes, _sizes(whole), strict=True)]
    assert max(off) <= (0 if batch != 17 else MIN_BLOCK_BYTES)
    flops = sum(cost.flops for (name, _), cost in whole.costs.items() if name == "gemm")
    assert sizes.costs["gemm"].flops == pytest.approx(flops)


def test_the_reference_is_straight_in_the_batch():
    assert _line("reference").fitted == (FIT_BATCHES[0], FIT_BATCHES[2])


def test_a_batch_of_one_has_to_be_traced():
    assert _line("reference").at(1) is None


def _single(size_bytes: int) -> Trace:
    events = [Event(0, size_bytes, "made", "forward", 0), Event(0, FREE, "made", "forward", 0)]
    return Trace(depth=1, first=events, categories=["activations"], costs={("gemm", 0): Cost(flops=1.0)})


def test_sizes_that_bend_are_traced():
    line = trace_line(lambda batch, depth: _single(min(100 * batch, 800)), 1)
    assert line.fitted is None
    assert line.at(16) is None
    add_trace(line, 16, _single(800), 1)
    sizes = line.at(16)
    assert sizes is not None
    assert sizes.sizes == [800]
    assert sizes.structure == 0


def test_another_kernel_for_large_batches_is_no_line():
    """Its buffers are straight, but what is launched is not the same: the batches between are traced."""

    def tracing(batch: int, depth: int) -> Trace:
        trace = _single(100 * batch)
        trace.costs = {("wide" if batch > 8 else "narrow", 0): Cost(launches=1.0)}
        return trace

    line = trace_line(tracing, 1)
    assert line.fitted is None
    assert line.at(16) is None


def test_other_events_are_another_structure():
    line = trace_line(lambda batch, depth: _single(100 * batch), 1)
    other = Trace(depth=1, first=[Event(0, 5, "another", "forward", 0)], categories=["activations"])
    assert add_trace(line, 1, other, 1).structure == 1
    straight = line.at(5)
    assert straight is not None
    assert straight.sizes == [500]


@pytest.mark.parametrize("version", ["reference", "fast"])
def test_a_line_survives_its_file(version, tmp_path):
    line = _line(version)
    write_line(tmp_path / "folder" / "line", line)
    read = read_line(tmp_path / "folder" / "line")
    assert read is not None
    assert read.fitted == line.fitted
    for batch in FIT_BATCHES:
        assert read.at(batch) == line.at(batch)
        peaks = []
        for one in (line, read):
            sizes = one.at(batch)
            assert sizes is not None
            structure = one.structures[sizes.structure]
            program = Program(structure, is_captured=False)
            peaks.append(program.replay(structure.whole(sizes.sizes), workspaces=WORKSPACES))
        assert peaks[0] == peaks[1]


def test_a_damaged_file_is_no_line(tmp_path):
    path = tmp_path / "line"
    assert read_line(path) is None
    path.write_bytes(b"not compressed")
    assert read_line(path) is None
