"""Selective checkpointing of the built-in transformer, traced without a GPU: what a block keeps, by hand."""

from __future__ import annotations

import pytest
import torch

from phase8_tune.tuner.builtin.transformer.config import FAMILIES, Family, transformer_config
from phase8_tune.tuner.builtin.transformer.training import build
from phase8_tune.tuner.predict.fit.line import total_costs
from phase8_tune.tuner.predict.lines import limits_of
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.trace.events import FREE, Trace
from phase8_tune.tuner.predict.trace.foreign import trace_foreign
from phase8_tune.tuner.workloads.training import Build

PROFILE = gpu_profile("rtx-4090")
CAPABILITY = (8, 9)
BATCH, N = 4, 64
TOKENS = BATCH * N


def traced(layers: int, family: Family, checkpointing: str) -> Trace:
    axes = {"n_seq": N, "family": family, "loss": "chunked", "gradient_checkpointing": checkpointing}
    asked = Build(model=f"128x{layers}", batch_size=BATCH, axes=axes, device=torch.device("meta"))
    return trace_foreign(build, asked, limits_of(PROFILE), CAPABILITY)


def held(trace: Trace) -> int:
    """Bytes of activations between forward and backward of the second step."""
    live: dict[int, int] = {}
    for event in trace.repeat:
        if event.phase == "backward":
            break
        if event.size_bytes == FREE:
            live.pop(event.slot, None)
        elif event.size_bytes > 0:
            live[event.slot] = event.size_bytes
    return sum(live.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_keeps_its_input_and_its_products(family: Family) -> None:
    """In float32 the input, in bfloat16 q, k, v, what attention returns, its product and the wide one; the
    residual stream is float32, and so are attention's sums and its random state, which is empty."""
    config = transformer_config("128x3", n_seq=N, family=family)
    d, wide = config.d_model, config.ffn_dim * (2 if config.ffn == "swiglu" else 1)
    kept = {c: held(traced(3, family, c)) - held(traced(2, family, c)) for c in ("selective", "full")}
    more = kept["selective"] - kept["full"]
    products = 2 * (3 * d + d + d + wide) * TOKENS
    sums = 4 * config.n_heads * TOKENS
    assert products + sums <= more <= products + sums + 1024
    assert kept["full"] >= 4 * d * TOKENS


@pytest.mark.parametrize("family", FAMILIES)
def test_selective_multiplies_nothing_again(family: Family) -> None:
    flops = {}
    for checkpointing in ("none", "selective", "full"):
        costs = total_costs(traced(3, family, checkpointing), 1)
        flops[checkpointing] = sum(cost.flops for cost in costs.values())
    assert flops["none"] == flops["selective"] < flops["full"]
