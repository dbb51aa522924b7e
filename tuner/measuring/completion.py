"""A measurement put together: what the worker found, and what the driver saw from outside."""

from __future__ import annotations

from typing import Any

from ..values.measurement import KernelCheck, Measurement, Telemetry
from ..values.outcome import Outcome
from .memory import Settlement


def with_check(measurement: Measurement, check: KernelCheck) -> Measurement:
    """The measurement before which a kernel version was checked: that belongs to its set-up."""
    setup_s = measurement.setup_s
    return measurement.model_copy(
        update={"kernel_check": check, "setup_s": None if setup_s is None else setup_s + check.seconds}
    )


def complete(
    measurement: Measurement,
    settlement: Settlement | None,
    telemetry: Telemetry | None,
    slowdowns: tuple[str, ...],
) -> Measurement:
    """The worker's measurement with what was seen from outside."""
    update: dict[str, Any] = {"telemetry": telemetry}
    tainted = measurement.tainted
    if slowdowns and measurement.samples_s:
        tainted += (f"throttled: {', '.join(slowdowns)}",)
    if settlement is not None:
        update |= {
            "peak_bytes": settlement.peak_bytes,
            "peak_source": settlement.source,
            "ledger": settlement.ledger,
        }
        tainted += settlement.tainted
        disturbed = settlement.outcome is Outcome.INTERFERENCE and measurement.outcome.is_memory
        if settlement.outcome is not None and (measurement.outcome is Outcome.OK or disturbed):
            update |= {"outcome": settlement.outcome, "message": settlement.message}
    return measurement.model_copy(update=update | {"tainted": tainted})
