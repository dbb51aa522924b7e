"""What the trace of a training with a small optimizer says, against what can be counted."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch

from phase8_tune.kernels.adamw.codes import BLOCK
from phase8_tune.phase8.model import Phase8Model
from phase8_tune.phase8.optimizer import SMALLEST_8BIT, MasterWeights, OptimizerState
from phase8_tune.tuner.predict.fit.line import total_costs
from phase8_tune.tuner.predict.trace.events import FREE, Trace

from .test_depth import deep_trace
from .traces import CONFIG, VERSIONS, canonical, live_peak, traced

OPTIONS: list[tuple[OptimizerState, MasterWeights]] = [
    ("8bit", "fp32"),
    ("fp32", "bf16_sr"),
    ("8bit", "bf16_sr"),
]
ALL_OPTIONS: list[tuple[OptimizerState, MasterWeights]] = [("fp32", "fp32"), *OPTIONS]
every_option = pytest.mark.parametrize(("optimizer_state", "master_weights"), OPTIONS)


def counted(optimizer_state: str, master_weights: str) -> dict[str, int]:
    """Bytes of weights, gradients and optimizer state, from the model's shapes."""
    with torch.device("meta"):
        model = Phase8Model(CONFIG)
    products = {id(weight) for weight in model.product_weights()} if master_weights == "bf16_sr" else set()
    found = {"weights": sum(4 * buffer.numel() for buffer in model.buffers()), "gradients": 0, "optimizer": 0}
    for weight in model.parameters():
        count, size = weight.numel(), 2 if id(weight) in products else 4
        found["weights"] += size * count
        found["gradients"] += size * count
        is_8bit = optimizer_state == "8bit" and count >= SMALLEST_8BIT
        moment = count + 4 * -(-count // BLOCK) if is_8bit else 4 * count
        found["optimizer"] += 2 * moment + 4
    return found


def kept(trace: Trace) -> dict[str, int]:
    """Bytes that stay, by category; of the gradients all that there ever were."""
    freed = {event.slot for part in trace.parts() for event in part if event.size_bytes == FREE}
    found = {"weights": 0, "gradients": 0, "optimizer": 0}
    for event in chain(trace.setup, trace.first):
        category = trace.categories[event.slot]
        if event.size_bytes >= 0 and category in found and (category == "gradients") == (event.slot in freed):
            found[category] += event.size_bytes
    return found


@every_option
@pytest.mark.parametrize("version", ["reference", "fast"])
def test_what_stays_is_what_can_be_counted(version, optimizer_state, master_weights):
    trace = traced(version, optimizer_state=optimizer_state, master_weights=master_weights)
    expected, found = counted(optimizer_state, master_weights), kept(trace)
    assert found["weights"] == expected["weights"]
    assert found["optimizer"] == expected["optimizer"]
    # The scalars' gradients may be views of two or three numbers in one storage
    assert 0 <= found["gradients"] - expected["gradients"] <= 12 * CONFIG.n_layers


@every_option
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_deep_model_is_that_of_three_blocks(version, precision, optimizer_state, master_weights):
    options = {"optimizer_state": optimizer_state, "master_weights": master_weights, "precision": precision}
    three, five = traced(version, **options), traced(version, depth=5, **options)
    assert canonical(deep_trace(three, 5)) == canonical(five)
    deep, whole = total_costs(three, 5), total_costs(five, 5)
    assert {name: cost.launches for name, cost in deep.items()} == {
        name: cost.launches for name, cost in whole.items()
    }
    kernel = "adamw_fast:adamw.tiles.update_kernel"
    assert (kernel in whole) == (version != "reference")
    if kernel in whole:
        assert deep[kernel] == whole[kernel]


@every_option
def test_the_second_step_is_the_first_without_what_stays(optimizer_state, master_weights):
    options = {"optimizer_state": optimizer_state, "master_weights": master_weights, "precision": "fp16"}
    assert canonical(traced("fast", **options)) == canonical(traced("fast", steps=2, **options))


def test_each_option_saves_and_both_save_most():
    plain, *small = (
        live_peak(traced("fast", depth=8, batch=1, optimizer_state=state, master_weights=weights))
        for state, weights in ALL_OPTIONS
    )
    assert max(small) < plain
    assert min(small) == small[-1]


def test_a_step_takes_one_number_a_weight_beside_its_state():
    """Nothing as large as a weight is made while the optimizer works on those whose moments have 8 bits."""
    trace = traced("fast", optimizer_state="8bit", master_weights="bf16_sr")
    made = [e.size_bytes for e in trace.repeat if e.phase == "optimizer" and e.size_bytes > 0]
    assert max(made) < 2 * SMALLEST_8BIT * 4


def test_the_model_is_never_whole_in_float32():
    """While it is built, no more is there than what stays and one part of it in float32."""
    options: dict[str, Any] = {"optimizer_state": "8bit", "master_weights": "bf16_sr"}
    trace = traced("fast", depth=8, **options)
    whole = live_peak(Trace(depth=8, setup=trace.setup, categories=trace.categories))
    stays = sum(e.size_bytes for e in trace.setup if e.size_bytes > 0) - sum(
        made.size_bytes
        for made in trace.setup
        for e in trace.setup
        if e.size_bytes == FREE and made.slot == e.slot and made.size_bytes > 0
    )
    with torch.device("meta"):
        model = Phase8Model(CONFIG)
    largest = max(sum(4 * p.numel() for p in part.parameters()) for part in model.children())
    assert whole <= stays + largest
