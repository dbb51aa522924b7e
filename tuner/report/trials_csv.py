"""trials.csv: every record one line, for a spreadsheet; units stand in the headings."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Sequence

from ..records.frontier import Point
from ..values.candidate import DEFAULT_WORKLOAD, fields_of
from ..values.record import Record
from ..values.sizes import MIB

_BEFORE = ("trial", "attempt", "started_at_utc", "digest")
_AFTER = (
    *("outcome", "message"),
    *("on_frontier", "parameters", "body_parameters", "tokens_per_s_mean", "tokens_per_s_std"),
    *("step_time_mean_s", "step_time_median_s", "samples", "setup_s", "wall_s", "peak_bytes"),
    *(
        "peak_mb_2e20",
        "peak_source",
        "budget_bytes",
        "final_loss",
        "tainted",
        "energy_j",
        "energy_j_per_token",
    ),
    *("sm_clock_mhz", "temperature_c", "throttle_reasons", "power_source"),
    *("device_kind", "device_name", "device_uuid", "device_total_bytes"),
    *("phase8_tune", "python", "torch", "triton", "cuda", "driver", "os"),
    *("predicted_tokens_per_s", "predicted_tokens_per_s_low", "predicted_tokens_per_s_high"),
    *("predicted_limited_by", "predicted_peak_bytes_high"),
)


def render_csv(records: Sequence[Record], frontier: Iterable[Point]) -> str:
    """All records in the order given, retries included; those of `frontier` say that they are on it.

    What was not measured is an empty cell.
    A plan's records have their tokens per second in the columns `predicted_…`, and device_kind "predicted".
    """
    front = {p.record.digest for p in frontier}
    text = io.StringIO(newline="")
    orders = dict.fromkeys(record.to_candidate().spec.order for record in records)
    fields = dict.fromkeys(name for order in orders or [fields_of([DEFAULT_WORKLOAD])] for name in order)
    writer = csv.DictWriter(text, (*_BEFORE, *fields, *_AFTER), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(record, record.fits and record.digest in front) for record in records)
    return text.getvalue()


def _row(record: Record, on_frontier: bool) -> dict[str, object]:
    candidate, measurement = record.to_candidate(), record.measurement
    device, versions, telemetry = measurement.device, measurement.versions, measurement.telemetry
    row: dict[str, object] = {
        "trial": record.trial_number,
        "attempt": record.attempt,
        "started_at_utc": record.started_at,
        "digest": record.digest,
        **candidate.to_dict(),
        "outcome": measurement.outcome.value,
        "message": " ".join(measurement.message.split()),
        "on_frontier": on_frontier,
        "parameters": measurement.parameters,
        "body_parameters": measurement.body_parameters,
        "samples": len(measurement.samples_s),
        "setup_s": measurement.setup_s,
        "wall_s": measurement.wall_s,
        "peak_bytes": measurement.peak_bytes,
        "peak_source": measurement.peak_source,
        "budget_bytes": record.budget_bytes,
        "final_loss": measurement.final_loss,
        "tainted": "; ".join(measurement.tainted),
    }
    if measurement.peak_bytes is not None:
        row["peak_mb_2e20"] = round(measurement.peak_bytes / MIB, 2)
    if measurement.samples_s:
        row["tokens_per_s_mean"], row["tokens_per_s_std"] = measurement.tokens_per_s(candidate.items_per_step)
        row["step_time_mean_s"] = measurement.step_time_mean_s()
        row["step_time_median_s"] = statistics.median(measurement.samples_s)
    if device is not None:
        row |= {
            "device_kind": device.kind,
            "device_name": device.name,
            "device_uuid": device.uuid,
            "device_total_bytes": device.total_bytes,
        }
    if versions is not None:
        row |= versions.model_dump()
    if telemetry is not None:
        row |= {
            "energy_j": telemetry.energy_j,
            "energy_j_per_token": measurement.energy_per_token_j(candidate.items_per_step),
            "sm_clock_mhz": telemetry.sm_clock_mhz,
            "temperature_c": telemetry.temperature_c,
            "throttle_reasons": " ".join(telemetry.throttle_reasons),
            "power_source": telemetry.power_source,
        }
    if measurement.predicted is not None:
        row |= {f"predicted_{name}": value for name, value in measurement.predicted.model_dump().items()}
    return row
