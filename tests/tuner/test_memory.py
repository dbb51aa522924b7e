"""The budget's arithmetic: each step of the ladder of sources, and each verdict."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.measuring.memory import Observation, Settlement, cap_bytes, settle_cuda, settle_host
from phase8_tune.tuner.measuring.protocol import CudaMemory, HostMemory
from phase8_tune.tuner.values.outcome import Outcome

MIB = 1 << 20
CONTEXT, RESERVED = 400 * MIB, 3000 * MIB


def memory(**changes: int) -> CudaMemory:
    fields: dict[str, Any] = {"device_before_bytes": None, "device_peak_bytes": None} | changes
    return CudaMemory(
        context_bytes=CONTEXT, context_source="bare context", reserved_peak_bytes=RESERVED, **fields
    )


def settle(
    seen: Observation,
    told: CudaMemory | None = None,
    *,
    footprint: int = CONTEXT,
    budget: int = 8192 * MIB,
) -> Settlement:
    return settle_cuda(
        told or memory(), seen, footprint_bytes=footprint, budget_bytes=budget, reserve_bytes=256 * MIB
    )


DEVICE: dict[str, Any] = {
    "device_before_bytes": 900 * MIB,
    "device_peak_bytes": 4000 * MIB,
    "device_after_bytes": 900 * MIB,
}


@pytest.mark.parametrize(
    ("seen", "told", "peak", "source"),
    [
        (Observation(process_peak_bytes=3700 * MIB, **DEVICE), memory(), 3700, "nvml process used"),
        (Observation(**DEVICE), memory(), 3500, "nvml device used - baseline"),
        (
            Observation(),
            memory(device_before_bytes=500 * MIB, device_peak_bytes=3550 * MIB),
            3450,
            "cudaMemGetInfo used - baseline",
        ),
        (Observation(), memory(), 3400, "torch reserved peak + context"),
    ],
)
def test_ladder(seen: Observation, told: CudaMemory, peak: int, source: str) -> None:
    found = settle(seen, told)
    assert (found.peak_bytes, found.source) == (peak * MIB, source)
    assert found.outcome is None


def test_spike_that_polling_missed_is_taken_from_torch() -> None:
    found = settle(Observation(**DEVICE | {"device_peak_bytes": 2000 * MIB}))
    assert found.peak_bytes == CONTEXT + RESERVED
    assert "above nvml device used" in found.source


@given(
    st.integers(min_value=0, max_value=1 << 40),
    st.integers(min_value=0, max_value=1 << 40),
    st.integers(min_value=0, max_value=1 << 40),
)
def test_ledger_adds_up_to_the_peak(process: int, before: int, peak: int) -> None:
    seen = Observation(process_peak_bytes=process, device_before_bytes=before, device_peak_bytes=peak)
    found = settle(seen)
    lines = {line.name: line.size_bytes for line in found.ledger}
    assert lines["context"] + lines["reserved"] + lines["other"] == found.peak_bytes
    assert lines["other"] >= 0
    assert lines["margin"] == 256 * MIB


def test_footprint_of_a_kept_worker_counts() -> None:
    found = settle(Observation(**DEVICE), footprint=CONTEXT + 100 * MIB)
    assert found.peak_bytes == 3600 * MIB


def test_over_budget_by_what_torch_did_not_allocate() -> None:
    seen = Observation(process_peak_bytes=8300 * MIB, others_known=True)
    assert settle(seen).outcome is Outcome.OVER_BUDGET
    assert settle(seen, budget=8300 * MIB).outcome is None


def test_interference_is_said_before_anything_else() -> None:
    found = settle(Observation(process_peak_bytes=9000 * MIB, moved="process 7 came"))
    assert (found.outcome, found.message) == (Outcome.INTERFERENCE, "process 7 came")


def test_spilled() -> None:
    card: dict[str, Any] = {"capacity_bytes": 4096 * MIB, "device_before_bytes": 1400 * MIB}
    full = Observation(**card, device_peak_bytes=4090 * MIB)
    assert settle(full).outcome is Outcome.SPILLED  # 1000 of others + 3400 on a card of 4096
    assert settle(Observation(**card, device_peak_bytes=3900 * MIB)).outcome is None  # not pinned
    roomy = Observation(
        capacity_bytes=4096 * MIB, device_before_bytes=400 * MIB, device_peak_bytes=4090 * MIB
    )
    assert settle(roomy).outcome is None  # pinned, but all of it fits


def test_unexplained_memory_taints_where_the_owner_is_unknown() -> None:
    large = Observation(**DEVICE | {"device_peak_bytes": 6000 * MIB})
    assert settle(large).tainted
    assert not settle(Observation(**DEVICE)).tainted
    assert not settle(Observation(**DEVICE | {"device_peak_bytes": 6000 * MIB}, others_known=True)).tainted


def test_residue() -> None:
    assert Observation(device_before_bytes=5, device_after_bytes=9).residue_bytes() == 4
    assert Observation(device_before_bytes=9, device_after_bytes=5).residue_bytes() == 0
    assert Observation().residue_bytes() == 0


def test_cap_leaves_context_and_reserve_and_never_passes_the_card() -> None:
    common = {"reserve_bytes": 10, "held_bytes": 5}
    assert cap_bytes(budget_bytes=100, capacity_bytes=1000, **common) == 85
    assert cap_bytes(budget_bytes=5000, capacity_bytes=1000, **common) == 985
    assert cap_bytes(budget_bytes=12, capacity_bytes=1000, **common) <= 0


def test_host() -> None:
    told = HostMemory(before_bytes=100, peak_bytes=150, source="VmHWM")
    fits = settle_host(told, budget_bytes=150, reserve_bytes=0)
    assert (fits.peak_bytes, fits.outcome, fits.source) == (150, None, "VmHWM")
    over = settle_host(told, budget_bytes=149, reserve_bytes=0)
    assert over.outcome is Outcome.OVER_BUDGET
    assert [line.size_bytes for line in over.ledger] == [100, 50, 0]


def test_host_peak_is_never_below_what_was_there() -> None:
    told = HostMemory(before_bytes=100, peak_bytes=90, source="VmHWM")
    assert settle_host(told, budget_bytes=200, reserve_bytes=0).peak_bytes == 100
