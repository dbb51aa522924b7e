"""What a report knows besides the records, and how its numbers are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..candidate import Mode
from ..foresight import Skips
from ..measurement import DeviceInfo, Versions
from ..measurer import TimingSettings
from ..outcome import Outcome
from ..record import Record

MODE_TITLES: dict[Mode, str] = {
    "train": "training (forward, backward, optimizer step)",
    "forward": "forward only (no gradients)",
}

_NOTES = {
    Outcome.OK: "✓",
    Outcome.OOM: "out of memory",
    Outcome.PREDICTED_OVER_BUDGET: "predicted not to fit, not run",
    Outcome.SPILLED: "spilled to system memory",
    Outcome.TIMEOUT: "timed out",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """The run behind a set of records. `missing_versions` are kernel versions asked for but not installed.

    skips: what prediction skipped, None where nothing was predicted.
    """

    run_root: Path
    study_name: str
    budget_bytes: int
    reserve_bytes: int
    device: DeviceInfo
    versions: Versions
    timing: TimingSettings
    command: str
    missing_versions: tuple[str, ...] = ()
    skips: Skips | None = None


def format_rate(tokens_per_s: float, std: float | None = None) -> str:
    """Tokens per second for people: `1,959 (±127)`, with decimals only where the number is small."""
    digits = 0 if tokens_per_s >= 100 else 1 if tokens_per_s >= 10 else 2
    text = f"{tokens_per_s:,.{digits}f}"
    return text if std is None else f"{text} (±{std:,.{digits}f})"


def format_parameters(parameters: int) -> str:
    """A parameter count as in the seed's table: `10.62M`."""
    return f"{parameters / 1e6:,.2f}M"


def format_range(values: list[str]) -> str:
    """First and last of an ordered list of texts, once where they are equal."""
    return values[0] if values[0] == values[-1] else f"{values[0]}–{values[-1]}"


def outcome_note(outcome: Outcome) -> str:
    """What stands in a table's last column."""
    return _NOTES.get(outcome, outcome.value.replace("_", " "))


def describe_gpus(records: Sequence[Record]) -> str | None:
    """How many configurations each GPU measured, None where it was one GPU, or none."""
    devices = (r.measurement.device for r in records if r.attempt > 0)
    counts = Counter(device.uuid for device in devices if device is not None and device.uuid is not None)
    if len(counts) < 2:
        return None
    return f"{len(counts)} GPUs: " + ", ".join(f"{n} on {uuid}" for uuid, n in sorted(counts.items()))


def describe_device(device: DeviceInfo) -> str:
    """The device with its kind, so that a figure from a CPU is never taken for a GPU's."""
    return f"{device.name} (device: {device.kind})"
