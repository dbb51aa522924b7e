"""The memory budget as arithmetic: the ledger of a trial, and which of several observers is believed.

    budget = CUDA context + torch reserved + other libraries' allocations + margin

All figures are bytes. Nothing here touches a device.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..values.measurement import LedgerLine
from ..values.outcome import Outcome
from .protocol import CudaMemory, HostMemory

MARGIN = "margin"
"""The line of a ledger that is left to others."""
PINNED = 0.98  # a card this full is at its capacity: the driver keeps the rest for itself
# Below this, a change of the card's use is the driver's own bookkeeping (module loading, page tables).
DRIFT_BYTES = 64 << 20
# More than libraries' handles and workspaces take; perhaps another program's, so it is looked at again.
UNEXPLAINED_BYTES = 256 << 20
# A CPU trial is stopped from outside here: well past what sampling and page granularity explain.
HOST_TOLERANCE = 1.25
HOST_SLACK_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What was seen of the card from outside the worker, between the start and the end of one trial.

    `process_peak_bytes` is None unless the driver names the worker's own pid with a figure; the device's
    figures are None where NVML gave none. `moved` says why another process's memory is known to have changed.
    """

    process_peak_bytes: int | None = None
    device_before_bytes: int | None = None
    device_peak_bytes: int | None = None
    device_after_bytes: int | None = None
    capacity_bytes: int | None = None
    moved: str | None = None
    others_known: bool = False  # NVML told every other process's memory, so `moved` misses none

    def residue_bytes(self) -> int:
        """What the trial left on the card for good: modules and handles of libraries, 0 where not known."""
        if self.device_before_bytes is None or self.device_after_bytes is None:
            return 0
        return max(0, self.device_after_bytes - self.device_before_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settlement:
    """The trial's memory after all observers were heard. `outcome` is None where memory changes nothing."""

    peak_bytes: int
    source: str
    ledger: tuple[LedgerLine, ...]
    outcome: Outcome | None = None
    message: str = ""
    tainted: tuple[str, ...] = ()


def cap_bytes(*, budget_bytes: int, reserve_bytes: int, held_bytes: int, capacity_bytes: int) -> int:
    """What torch's allocator may reserve; ≤ 0 where the budget leaves it nothing.

    `held_bytes` is what the process has of the card before: its context and what libraries keep.
    Never more than the card has: on WSL an allocation beyond it spills to system memory without an error.
    """
    return min(budget_bytes, capacity_bytes) - held_bytes - reserve_bytes


def settle_cuda(
    memory: CudaMemory,
    seen: Observation,
    *,
    footprint_bytes: int,
    budget_bytes: int,
    reserve_bytes: int,
) -> Settlement:
    """The whole peak of a CUDA trial, its ledger, and whether it overran, spilled or was disturbed.

    `footprint_bytes` is what the idle worker held before the trial: its context and what libraries kept.
    """
    observed, source = _observed_peak(memory, seen, footprint_bytes)
    known = memory.context_bytes + memory.reserved_peak_bytes
    if observed < known:  # polling misses spikes that torch's counters do not
        observed, source = known, f"torch reserved peak + context (above {source})"
    other = observed - known
    ledger = (
        LedgerLine(name="context", size_bytes=memory.context_bytes, source=memory.context_source),
        LedgerLine(
            name="reserved", size_bytes=memory.reserved_peak_bytes, source="torch.cuda.max_memory_reserved"
        ),
        LedgerLine(name="other", size_bytes=other, source=f"{source} - context - reserved"),
        LedgerLine(name=MARGIN, size_bytes=reserve_bytes, source="--reserve"),
    )
    outcome, message = _judge(memory, seen, observed, footprint_bytes, budget_bytes)
    tainted: tuple[str, ...] = ()
    unexplained = observed - footprint_bytes - memory.reserved_peak_bytes
    is_owner_known = seen.process_peak_bytes is not None or seen.others_known
    if unexplained > UNEXPLAINED_BYTES and not is_owner_known:
        tainted = (f"{unexplained} bytes outside torch's allocator, of an owner that NVML does not tell",)
    return Settlement(
        peak_bytes=observed, source=source, ledger=ledger, outcome=outcome, message=message, tainted=tainted
    )


def _observed_peak(memory: CudaMemory, seen: Observation, footprint_bytes: int) -> tuple[int, str]:
    """The first source of the ladder that has a figure, and its name."""
    if seen.process_peak_bytes:
        return seen.process_peak_bytes, "nvml process used"
    if seen.device_before_bytes is not None and seen.device_peak_bytes is not None:
        return seen.device_peak_bytes - seen.device_before_bytes + footprint_bytes, (
            "nvml device used - baseline"
        )
    if memory.device_before_bytes is not None and memory.device_peak_bytes is not None:
        return memory.device_peak_bytes - memory.device_before_bytes + footprint_bytes, (
            "cudaMemGetInfo used - baseline"
        )
    return memory.context_bytes + memory.reserved_peak_bytes, "torch reserved peak + context"


def _judge(
    memory: CudaMemory, seen: Observation, peak_bytes: int, footprint_bytes: int, budget_bytes: int
) -> tuple[Outcome | None, str]:
    if seen.moved is not None:
        return Outcome.INTERFERENCE, seen.moved
    capacity, before, most = seen.capacity_bytes, seen.device_before_bytes, seen.device_peak_bytes
    if capacity is not None and before is not None and most is not None and most >= PINNED * capacity:
        others = max(0, before - footprint_bytes)
        wanted = others + memory.context_bytes + memory.reserved_peak_bytes
        if wanted > capacity:
            return Outcome.SPILLED, (
                f"{wanted} bytes were in use on a card of {capacity}: the rest went to system memory"
            )
    if peak_bytes > budget_bytes:
        return Outcome.OVER_BUDGET, f"the peak of {peak_bytes} bytes is over the budget of {budget_bytes}"
    return None, ""


def settle_host(memory: HostMemory, *, budget_bytes: int, reserve_bytes: int) -> Settlement:
    """The whole peak of a CPU trial: the process as it was, and what the trial added."""
    added = max(0, memory.peak_bytes - memory.before_bytes)
    peak = memory.before_bytes + added
    ledger = (
        LedgerLine(name="process", size_bytes=memory.before_bytes, source="VmRSS before the trial"),
        LedgerLine(name="trial", size_bytes=added, source=f"{memory.source} - VmRSS before the trial"),
        LedgerLine(name=MARGIN, size_bytes=reserve_bytes, source="--reserve"),
    )
    over = peak > budget_bytes
    message = f"the peak of {peak} bytes is over the budget of {budget_bytes}" if over else ""
    return Settlement(
        peak_bytes=peak,
        source=memory.source,
        ledger=ledger,
        outcome=Outcome.OVER_BUDGET if over else None,
        message=message,
    )


def host_limit_bytes(budget_bytes: int) -> int:
    """Resident memory at which a CPU worker is stopped from outside, before it takes the machine with it."""
    return int(budget_bytes * HOST_TOLERANCE) + HOST_SLACK_BYTES
