"""What a device shows at a moment, for whoever watches a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..machine.nvml import Card
from ..machine.process_memory import read_status_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """used_bytes: of a card by all its programs, of a CPU by the worker. What is not told is None."""

    used_bytes: int | None
    temperature_c: int | None = None
    sm_clock_mhz: int | None = None


Gauge = Callable[[], Reading]
"""May be read from any thread."""


def card_gauge(card: Card) -> Gauge:
    """Of a GPU, as NVML tells it."""

    def read() -> Reading:
        memory = card.memory()
        return Reading(
            used_bytes=None if memory is None else memory.used_bytes,
            temperature_c=card.temperature_c(),
            sm_clock_mhz=card.sm_clock_mhz(),
        )

    return read


def worker_gauge(pid: Callable[[], int | None]) -> Gauge:
    """Of a CPU: what the worker that `pid` names holds of the computer's memory."""

    def read() -> Reading:
        worker = pid()
        status = None if worker is None else read_status_bytes(Path(f"/proc/{worker}/status"), "VmRSS")
        return Reading(used_bytes=status)

    return read
