"""The trace without a GPU against events recorded on a real one (benchmarks/prediction.py --record)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.phase8.training import TrainingOptions
from phase8_tune.tuner.predict.stepping import Limits, trace_training

from .traces import CONFIG, canonical

RECORDED = Path(__file__).parent / "data" / "steps_on_cuda.json.gz"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    if not RECORDED.exists():
        pytest.skip("nothing was recorded on a GPU yet")
    loaded: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return loaded


@pytest.mark.parametrize("part", [0, 1, 2], ids=["setup", "first step", "second step"])
@pytest.mark.parametrize("version", ["reference", "v2"])
def test_traced_events_are_those_of_the_gpu(recorded, version, part):
    case = recorded["cases"][version]
    options = TrainingOptions(
        kernel_version=version,
        gradient_checkpointing=case["gradient_checkpointing"],
        mixed_precision=case["mixed_precision"],
    )
    limits = Limits(
        shared_memory_bytes=recorded["shared_memory_bytes"], multiprocessors=recorded["multiprocessors"]
    )
    trace = trace_training(CONFIG, options, batch_size=2, limits=limits)
    events = [[slot, size, op, phase] for slot, size, op, phase, _ in canonical(trace)[part]]
    assert events == case["parts"][part]
