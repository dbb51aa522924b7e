"""What a report knows besides the records, and how its numbers are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..records.frontier import Point
from ..search.plan_summary import PlanSummary
from ..search.skips import Skips
from ..values.candidate import DEFAULT_WORKLOAD, Mode
from ..values.measurement import DeviceInfo, PredictedFigures, Versions
from ..values.outcome import Outcome
from ..values.record import Record
from ..values.timing import Timing

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

    skips: what prediction skipped, None where nothing was predicted. plan: what was decided where nothing was
    measured, None for a study that measures. estimates: what is predicted under other budgets, points by
    budget; empty where nothing is.
    """

    run_root: Path
    study_name: str
    budget_bytes: int
    reserve_bytes: int
    device: DeviceInfo
    versions: Versions
    timing: Timing
    command: str
    workloads: tuple[str, ...] = (DEFAULT_WORKLOAD,)
    missing_versions: tuple[str, ...] = ()
    skips: Skips | None = None
    plan: PlanSummary | None = None
    estimates: Mapping[int, Sequence[Point]] = field(default_factory=dict)


def format_rate(tokens_per_s: float, std: float | None = None) -> str:
    """Tokens per second for people: `1,959 (±127)`, with decimals only where the number is small."""
    digits = 0 if tokens_per_s >= 100 else 1 if tokens_per_s >= 10 else 2
    text = f"{tokens_per_s:,.{digits}f}"
    return text if std is None else f"{text} (±{std:,.{digits}f})"


def format_predicted_rate(predicted: PredictedFigures) -> str:
    """Predicted tokens per second with the interval, to three figures: `~34,200 (21,400–54,700)`."""
    rates = (predicted.tokens_per_s, predicted.tokens_per_s_low, predicted.tokens_per_s_high)
    expected, low, high = (format_rate(float(f"{rate:.3g}")) for rate in rates)
    return f"~{expected} ({low}–{high})"


def describe_rate(record: Record) -> str | None:
    """Tokens per second of a record that fits, measured or predicted; None where there are none."""
    measurement = record.measurement
    if not record.fits:
        return None
    if measurement.predicted is not None:
        return format_predicted_rate(measurement.predicted)
    if measurement.samples_s:
        return format_rate(*measurement.tokens_per_s(record.to_candidate().items_per_step))
    return None


def format_parameters(parameters: int) -> str:
    """A parameter count as in the seed's table: `10.62M`."""
    return f"{parameters / 1e6:,.2f}M"


def format_range(values: list[str]) -> str:
    """First and last of an ordered list of texts, once where they are equal."""
    return values[0] if values[0] == values[-1] else f"{values[0]}–{values[-1]}"


def outcome_note(record: Record) -> str:
    """What stands in a table's last column."""
    outcome = record.measurement.outcome
    if record.fits and record.measurement.predicted is not None:
        return "predicted to fit"
    return _NOTES.get(outcome, outcome.value.replace("_", " "))


def describe_gpus(records: Sequence[Record]) -> str | None:
    """How many configurations each GPU measured, None where it was one GPU, or none."""
    devices = (r.measurement.device for r in records if r.attempt > 0)
    counts = Counter(device.uuid for device in devices if device is not None and device.uuid is not None)
    if len(counts) < 2:
        return None
    return f"{len(counts)} GPUs: " + ", ".join(f"{n} on {uuid}" for uuid, n in sorted(counts.items()))


def describe_device(device: DeviceInfo) -> str:
    """Where figures are from: a CPU's are never taken for a GPU's, nor predicted ones for measured ones."""
    if device.kind == "predicted":
        return f"predicted for {device.name}"
    return f"on {device.name} (device: {device.kind})"
