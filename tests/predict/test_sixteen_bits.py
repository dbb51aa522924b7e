"""bfloat16 steps are float16 steps without the loss scaling: what lets one trace answer for both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phase8_tune.kernels.versions import KERNEL_VERSIONS
from phase8_tune.phase8.config import preset
from phase8_tune.phase8.model import Checkpointing
from phase8_tune.phase8.training import TrainingOptions
from phase8_tune.tuner.builtin.phase8.tracing import trace_training
from phase8_tune.tuner.predict.fit.line import total_costs
from phase8_tune.tuner.predict.lines import LineKey, traced_key
from phase8_tune.tuner.predict.trace.events import FREE, LOSS_SCALING, Event, Trace

from .traces import LIMITS

SCALING_BYTES = 64  # at most: some scalars


def line(version: str, precision: str) -> LineKey:
    return LineKey(
        workload="phase8",
        model="nano",
        variant="phase8",
        n_seq=64,
        kernel_version=version,
        gradient_checkpointing="none",
        mixed_precision=precision,  # type: ignore[arg-type]
        mode="train",
        vocab_size=50257,
        limits=LIMITS,
    )


SHARED = [v for v in KERNEL_VERSIONS if traced_key(line(v, "bf16")) != line(v, "bf16")]


def traced(
    version: str, precision: str, model: str, n_seq: int, batch: int, checkpointing: Checkpointing
) -> Trace:
    options = TrainingOptions(
        kernel_version=version,
        mixed_precision=precision,  # type: ignore[arg-type]
        gradient_checkpointing=checkpointing,
    )
    return trace_training(preset(model, n_seq=n_seq), options, batch_size=batch, limits=LIMITS, depth=3)


def added(plain: list[Event], scaled: list[Event]) -> list[Event]:
    """The events of `scaled` that `plain` has not; all of `plain`'s come in it, in order, slot for slot."""
    slots: dict[int, int] = {}
    rest, extra = iter(plain), []
    expected = next(rest, None)
    for event in scaled:
        if expected is not None and slots.setdefault(event.slot, expected.slot) == expected.slot and (
            replace_slot(event, expected.slot) == expected
        ):  # fmt: skip
            expected = next(rest, None)
        else:
            extra.append(event)
    assert expected is None
    return extra


def replace_slot(event: Event, slot: int) -> Event:
    return event._replace(slot=slot)


@pytest.mark.parametrize("version", SHARED)
@pytest.mark.parametrize(
    ("model", "n_seq", "batch", "checkpointing"),
    [
        ("nano", 256, 64, "none"),
        ("small", 512, 1, "full"),
        ("xl", 1024, 2, "full"),
        ("medium", 64, 8, "none"),
    ],
)
def test_scaling_adds_a_few_scalars(
    version: str, model: str, n_seq: int, batch: int, checkpointing: Checkpointing
) -> None:
    bf16, fp16 = (traced(version, p, model, n_seq, batch, checkpointing) for p in ("bf16", "fp16"))
    for plain, scaled in zip(bf16.parts(), fp16.parts(), strict=True):
        extra = added(plain, scaled)
        assert sum(e.size_bytes for e in extra if e.size_bytes != FREE) <= SCALING_BYTES
    plain_costs, scaled_costs = total_costs(bf16, 3), total_costs(fp16, 3)
    scaling = scaled_costs.pop(LOSS_SCALING)
    assert scaling.moved_bytes > 4 * preset(model, n_seq=n_seq).parameter_count() * 3 / 32
    # What remains: the scaled loss's own gradient, and the optimizer's step counts taken back on overflow
    plain_memory, scaled_memory = plain_costs.pop("memory"), scaled_costs.pop("memory")
    assert 0 <= scaled_memory.launches - plain_memory.launches <= 3
    assert 0 <= scaled_memory.moved_bytes - plain_memory.moved_bytes <= 4096
    assert scaled_costs == plain_costs


@pytest.mark.parametrize("version", KERNEL_VERSIONS)
def test_other_lines_stand_for_themselves(version: str) -> None:
    for precision in ("fp16", "none"):
        assert traced_key(line(version, precision)) == line(version, precision)
    forward = replace(line(version, "bf16"), mode="forward")
    assert traced_key(forward).mode == "forward"
