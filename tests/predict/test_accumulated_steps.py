"""Steps of several batches, whose gradients stay between them: traced as they are taken, for any number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from phase8_tune.phase8.training import TrainingOptions
from phase8_tune.tuner.builtin.phase8.tracing import trace_training
from phase8_tune.tuner.builtin.transformer.training import build
from phase8_tune.tuner.predict.fit.line import total_costs
from phase8_tune.tuner.predict.lines import limits_of
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.trace import foreign
from phase8_tune.tuner.predict.trace.events import FREE, Event, Trace
from phase8_tune.tuner.predict.trace.foreign import trace_foreign
from phase8_tune.tuner.workloads.stepping import TrainingStepper
from phase8_tune.tuner.workloads.training import Build

from .test_depth import deep_trace
from .traces import CONFIG, LIMITS, VERSIONS, canonical, live_peak

BATCH = 4


def traced(version: str, parts: int, depth: int = 3, **options: Any) -> Trace:
    chosen = TrainingOptions(kernel_version=version, **options)
    return trace_training(CONFIG, chosen, batch_size=BATCH, limits=LIMITS, depth=depth, parts=parts)


def alive(events: list[Event], *before: list[Event]) -> set[int]:
    """Slots that events leave."""
    found: set[int] = set()
    for event in (event for part in (*before, events) for event in part):
        if event.size_bytes == FREE:
            found.remove(event.slot)
        else:
            found.add(event.slot)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_gradients_stay_from_part_to_part(version: str) -> None:
    """At the peak, which is the loss's, they are there beside what a step of one batch takes."""
    one, several = traced(version, 1), traced(version, 2)
    gradients = 4 * CONFIG.parameter_count()
    more = live_peak(several) - live_peak(one)
    assert gradients <= more <= 1.01 * gradients + 4096
    kept = alive(several.first, several.setup)
    assert sum(several.categories[slot] == "gradients" for slot in kept) > 0
    assert not any(one.categories[slot] == "gradients" for slot in alive(one.first, one.setup))
    assert alive(several.repeat) == set()


def test_gradients_of_bfloat16_weights_are_half_as_large() -> None:
    options: dict[str, Any] = {"optimizer_state": "8bit", "master_weights": "bf16_sr"}
    more = live_peak(traced("fast", 2, **options)) - live_peak(traced("fast", 1, **options))
    gradients = 4 * CONFIG.parameter_count() - 2 * replace(CONFIG, n_layers=3).product_count()
    assert gradients <= more <= 1.01 * gradients + 4096


@pytest.mark.parametrize("version", VERSIONS)
def test_a_deep_model_follows_from_three_blocks(version: str) -> None:
    whole = traced(version, 4, depth=5)
    assert canonical(deep_trace(traced(version, 4), 5)) == canonical(whole)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_part_costs_the_same_and_the_update_once(version: str) -> None:
    two, three, five = (total_costs(traced(version, parts), 3) for parts in (2, 3, 5))
    for name, cost in five.items():
        part = three[name].launches - two[name].launches
        assert cost.launches == two[name].launches + 3 * part
        assert cost.flops == pytest.approx(two[name].flops + 3 * (three[name].flops - two[name].flops))
    gemm = "gemm"
    assert five[gemm].flops == pytest.approx(5 / 2 * two[gemm].flops)


def test_of_a_foreign_model_two_parts_are_traced_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are, taken one by one, cost and hold the same."""
    parts, profile = 4, gpu_profile("rtx-4090")
    asked = Build(model="64x2", batch_size=2, axes={"n_seq": 16}, device=torch.device("meta"))

    def trace() -> Trace:
        return trace_foreign(build, asked, limits_of(profile), (8, 9), parts)

    found = trace()

    def one_by_one(tracer: object, stepper: TrainingStepper, batch: object, parts: int) -> torch.Tensor:
        for _ in range(parts - 1):
            stepper.accumulate(batch, parts)
            tracer.progress.begin_part()  # type: ignore[attr-defined]
        loss = stepper.accumulate(batch, parts)
        stepper.update()
        return loss

    monkeypatch.setattr(foreign, "_step", one_by_one)
    whole = trace()
    assert total_costs(found, 1) == total_costs(whole, 1)
    assert live_peak(found) == live_peak(whole)
    assert len(found.repeat) < len(whole.repeat)
