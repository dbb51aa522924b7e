"""The tracer against what can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from phase8_tune.phase8 import capture
from phase8_tune.phase8.config import preset
from phase8_tune.phase8.model import Checkpointing
from phase8_tune.tuner.builtin.phase8 import traced_trainer, tracing
from phase8_tune.tuner.predict.fit.line import total_costs
from phase8_tune.tuner.predict.replay.program import CAPTURE_AFTER
from phase8_tune.tuner.predict.trace.cost_classes import RECORDED, UNRECORDED
from phase8_tune.tuner.predict.trace.events import FREE, LT_WORKSPACE, WORKSPACE, Event
from phase8_tune.tuner.predict.trace.tracer import Tracer

from .traces import CONFIG, LIMITS, VERSIONS, live_peak, traced

META = torch.device("meta")


class Reader:
    """What a tracer logs, as sizes: positive for an allocation, negative for a free."""

    def __init__(self, tracer: Tracer) -> None:
        self._log = tracer.log
        self._sizes: dict[int, int] = {}

    def read(self) -> list[int]:
        """Sizes since the last call."""
        out = []
        for event in self._log.take():
            if event.size_bytes != FREE:
                self._sizes[event.slot] = event.size_bytes
            size = self._sizes[event.slot]
            out.append(-size if event.size_bytes == FREE else size)
        return out


def test_linear_layer_forward_and_backward():
    """y = x Wᵀ + b of 5×16 to 5×32: y, then dx, dW and db; every thread's workspaces once each."""
    with torch.autograd.set_multithreading_enabled(False), Tracer(META, LIMITS.processors) as tracer:
        layer = nn.Linear(16, 32, device=META)
        x = torch.zeros(5, 16, device=META, requires_grad=True)
        gradient = torch.zeros(5, 32, device=META)
        log = Reader(tracer)
        log.read()
        y = layer(x)
        assert log.read() == [4 * 5 * 32, WORKSPACE, LT_WORKSPACE]
        y.backward(gradient)
        backward = log.read()
        assert sorted(size for size in backward if size > 0) == sorted([4 * 5 * 16, 4 * 32 * 16, 4 * 32])
        assert [size for size in backward if size in (WORKSPACE, LT_WORKSPACE)] == [WORKSPACE]
        layer(x)
        assert log.read() == [4 * 5 * 32, -4 * 5 * 32]


def test_what_autograd_records_is_counted():
    """Forward, but for views; not backward, and not where nothing is recorded."""
    with torch.autograd.set_multithreading_enabled(False), Tracer(META, LIMITS.processors) as tracer:
        weight = torch.zeros(4, 4, device=META, requires_grad=True)
        gradient = torch.zeros(4, 4, device=META)
        before = _recorded(tracer)
        y = (weight.t() * 2.0).exp()
        assert _recorded(tracer) == before + 2
        y.backward(gradient)
        with torch.no_grad():
            weight * 2.0
        assert _recorded(tracer) == before + 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_forward_pass_counts_what_it_calls(version):
    """Without autograd nothing is recorded, and everything counts that is no part of a custom operation."""
    traces = [traced(version, mode=mode) for mode in ("forward", "train")]
    forward, training = (total_costs(trace, trace.depth) for trace in traces)
    assert RECORDED not in forward
    assert UNRECORDED not in training
    assert 0 < forward[UNRECORDED].launches <= forward["memory"].launches + forward["gemm"].launches
    assert training[RECORDED].launches > 0


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_evaluation_is_a_forward_pass_that_leaves_nothing(version, checkpointing):
    options = {"checkpointing": checkpointing, "precision": "fp16"}
    evaluation = traced(version, **options).evaluation
    alone = traced(version, mode="forward", **options)
    assert alone.evaluation == []
    assert _by_place(evaluation) == ([] if version in tracing.NOT_EVALUATED else _by_place(alone.repeat))
    assert len(alone.repeat) > 100


def _by_place(events: list[Event]) -> list[tuple[Any, ...]]:
    """Events with the place of what they free instead of a slot."""
    places = {event.slot: place for place, event in enumerate(events) if event.size_bytes != FREE}
    return [(places[event.slot], event.size_bytes, event.op, event.phase, event.unit) for event in events]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_evaluation_costs_a_step_nothing(version, monkeypatch):
    whole = traced(version)
    monkeypatch.setattr(tracing, "_evaluation", lambda *args: [])
    assert traced(version).costs == whole.costs


def _recorded(tracer: Tracer) -> float:
    return sum(cost.launches for (name, _), cost in tracer.work.costs.items() if name == RECORDED)


def test_views_and_in_place_operations_take_nothing():
    with Tracer(META, LIMITS.processors) as tracer:
        x = torch.zeros(4, 8, device=META)
        log = Reader(tracer)
        log.read()
        view = x.t()[1:].unsqueeze(0).expand(3, -1, -1)
        x.add_(1)
        assert log.read() == []
        del x
        assert log.read() == []  # the view holds the storage
        del view
        assert log.read() == [-4 * 4 * 8]


def test_a_product_with_a_bias_over_one_feature_is_no_product_of_cublaslt():
    """cuBLASLt takes no matrix with one row or column."""
    with torch.autograd.set_multithreading_enabled(False), Tracer(META, LIMITS.processors) as tracer:
        layer = nn.Linear(16, 1, device=META)
        log = Reader(tracer)
        log.read()
        layer(torch.zeros(5, 16, device=META))
        taken = log.read()
    assert WORKSPACE in taken
    assert LT_WORKSPACE not in taken


def test_copies_inside_our_operations_are_seen():
    """There `reshape` and `contiguous` come whole, as views: what they copy is memory nevertheless."""
    with Tracer(META, LIMITS.processors) as tracer:
        x = torch.zeros(4, 6, device=META)
        log = Reader(tracer)
        log.read()
        with torch._C._AutoDispatchBelowAutograd():
            copied, cast = x[:, 1:].reshape(-1), x[:2].to(torch.float64)
            same = x.reshape(-1)
        assert log.read() == [4 * 4 * 5, 8 * 2 * 6]
        del copied, cast, same
        assert log.read() == [-4 * 4 * 5, -8 * 2 * 6]


def test_all_norms_at_once_take_a_number_a_chunk_first():
    """65536 numbers a chunk, and for each tensor as many chunks as the largest has."""
    with Tracer(META, LIMITS.processors) as tracer:
        tensors = [torch.zeros(n, device=META) for n in (3 * 65536 + 1, 10)]
        log = Reader(tracer)
        log.read()
        norms = torch._foreach_norm(tensors)
        assert log.read() == [4 * 4 * 2, 4, 4, -4 * 4 * 2]
    assert len(norms) == 2


def test_a_remembered_operation_allocates_again():
    with Tracer(META, LIMITS.processors) as tracer:
        x = torch.zeros(3, 5, device=META)
        first, second = x + 1, x + 1
        tracer.log.take()
        assert first.stride() == second.stride() == (5, 1)
        assert first.untyped_storage()._cdata != second.untyped_storage()._cdata


@pytest.mark.parametrize("version", VERSIONS)
def test_state_is_sixteen_bytes_a_parameter(version):
    """Float32 weights, gradients and AdamW's two moments, and one step counter a tensor."""
    trace = traced(version, depth=CONFIG.n_layers)
    freed = {event.slot for part in trace.parts() for event in part if event.size_bytes == FREE}
    kept: dict[str, int] = {}
    tensors = gradients = 0
    for part in (trace.setup, trace.first):
        for event in part:
            category = trace.categories[event.slot]
            if event.size_bytes >= 0 and event.slot not in freed:
                kept[category] = kept.get(category, 0) + event.size_bytes
                tensors += category == "weights"
            if event.size_bytes >= 0 and category == "gradients":
                gradients += event.size_bytes
    buffers = 4 * CONFIG.ar_ssm_rank * CONFIG.n_layers
    count = CONFIG.parameter_count()
    assert kept["weights"] == 4 * count + buffers
    # The scalars' gradients may be views of two or three numbers in one storage
    assert 0 <= gradients - 4 * count <= 12 * CONFIG.n_layers
    assert kept["optimizer"] == 2 * 4 * count + 4 * (tensors - CONFIG.n_layers)


def kept_by_a_block(version: str, checkpointing: Checkpointing, batch: int) -> int:
    """Bytes that one more block keeps between forward and backward, in 16 bits."""

    def held(depth: int) -> int:
        live: dict[int, int] = {}
        trace = traced(version, checkpointing=checkpointing, depth=depth, batch=batch)
        for event in trace.first:
            if event.phase == "backward":
                break
            if event.size_bytes == FREE:
                live.pop(event.slot, None)
            elif trace.categories[event.slot] == "activations" and event.size_bytes > 0:
                live[event.slot] = event.size_bytes
        return sum(live.values())

    return held(6) - held(5)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_block_keeps(version):
    """With full checkpointing its input [B, N, d]; with selective the product, too, and of `fast` what scans
    and norms leave: ranked [B, N, R] and four numbers a row. Beside, at most four scalars."""
    d, rank, batch = CONFIG.d_model, CONFIG.ar_ssm_rank, 2
    tokens, scalars = batch * CONFIG.n_seq, range(4 * 4 + 1)
    product = 3 * d + 2 * rank + d // 4
    rows = 2 * rank + 16 if version == "fast" else 0
    assert kept_by_a_block(version, "full", batch) == 2 * d * tokens
    assert kept_by_a_block(version, "selective", batch) - (2 * (d + product) + rows) * tokens in scalars
    if version == "fast":
        derived = 2 * (2 * d + rank) + 44 * CONFIG.n_heads
        every = 2 * (d + product) + rows + derived
        assert kept_by_a_block(version, "none", batch) - every * tokens in scalars


@pytest.mark.parametrize("version", VERSIONS)
def test_selective_checkpointing_lies_between_none_and_full(version):
    config = preset("medium", n_seq=1024)

    def peak(checkpointing):
        return live_peak(traced(version, checkpointing=checkpointing, depth=16, batch=8, config=config))

    assert peak("none") > 1.2 * peak("selective")
    # What is kept of 15 blocks, beside the one that is computed again
    product = 2 * (3 * config.d_model + 2 * config.ar_ssm_rank + config.d_model // 4)
    assert peak("selective") - peak("full") > 15 * product * 8 * 1024


def test_checkpointing_saves_memory():
    plain, saving = (live_peak(traced(checkpointing=c, depth=8, batch=8)) for c in ("none", "full"))
    assert saving < 0.4 * plain


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_waits_for_the_garbage_collector(version, checkpointing):
    """A reference cycle would free memory at a moment that no trace can know; the collector is off here."""
    trace = traced(version, checkpointing=checkpointing, steps=2)
    assert sum(1 if event.size_bytes != FREE else -1 for event in trace.repeat) == 0


def test_the_replay_captures_when_the_trainer_does():
    assert CAPTURE_AFTER == capture.EAGER_CALLS


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("variant", ["phase8", "phase7"])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_remembered_changes_no_trace(version, variant, checkpointing, monkeypatch):
    """A trace on a trainer that was rewound, of operations whose bodies are known, is the first one again."""

    def trace(batch):
        config = replace(CONFIG, variant=variant)
        return traced(version, batch=batch, checkpointing=checkpointing, precision="fp16", config=config)

    monkeypatch.setattr(traced_trainer, "_BODIES", {})
    traced_trainer.traced_trainer.cache_clear()
    first, other = trace(2), trace(8)
    again = trace(2)
    traced_trainer.traced_trainer.cache_clear()
    monkeypatch.setattr(traced_trainer, "_BODIES", {})
    assert again == first
    assert trace(8) == other


def test_a_trainer_is_not_used_again_after_a_failure(monkeypatch):
    before = traced()

    def fail(*args):
        raise RuntimeError("in the middle of a step")

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            traced()
    assert traced() == before
