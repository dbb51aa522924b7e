"""A record as the page has it: the same figures for its table and, packed, for its plots."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from ..records.frontier import Point
from ..records.results import Results
from ..records.wording import rate_unit, setting_axes
from ..training.recommended import settings_of, to_yaml
from ..values.axes import Axis
from ..values.candidate import Candidate
from ..values.outcome import Outcome
from ..values.record import Record
from ..values.sizes import MIB

_BATCH = "\nbatch_size: {}\n"
_PRECISION, _CHECKPOINTING = "mixed_precision", "gradient_checkpointing"
"""Settings with a column of their own, where a workload has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A record in the units in which it is shown: MB of 2^20 bytes, millijoules an item, minutes.

    run: the name of its run, empty where there is one. length: what its batch is multiplied by, such as the
    tokens of a sequence; None where the batch counts. cell: what beside the model throughput is compared
    within, such as that length, as a text. unit: of its rate.
    checkpointing: empty of a workload without it.
    low, high: of the tokens a second, a standard deviation around the mean where measured, else the interval
    that should hold nine of ten. minutes: from the beginning of the run to its end. needs_mb:
    what the budget has to hold. ledger: names and MB, in turn.
    others: settings beside version, precision and checkpointing, in words.
    settings: the settings file, whose batch is `{}`; "" where nothing trains by it.
    """

    run: str
    digest: str
    workload: str
    mode: str
    model: str
    length: int | None
    cell: str
    batch: int
    version: str
    precision: str
    checkpointing: str
    others: str
    unit: str
    parameters: int | None
    rate: float | None
    low: float | None
    high: float | None
    peak_mb: float | None
    needs_mb: float | None
    energy_mj: float | None
    minutes: float | None
    fits: bool
    predicted: bool
    frontier: bool
    recommended: bool
    outcome: str
    note: str
    ledger: tuple[str | float, ...]
    settings: str


def to_rows(
    records: Sequence[Record], results: Results, name: Callable[[Candidate], str], run: str = ""
) -> list[Row]:
    """The rows of records, which are settled ones of the results of a run. name: what a model is called.

    They are ordered by mode, size of the model and cell; there the fastest first, and what does not fit last.
    """
    points = {point.record.digest: point for point in results.points}
    front = {point.record.digest for point in results.frontier}
    chosen = {point.record.digest for point in results.recommended}
    began = began_at(results)
    texts: dict[Candidate, str] = {}
    rows = []
    for record in records:
        measurement, candidate = record.measurement, record.to_candidate()
        point, predicted = points.get(record.digest), measurement.predicted
        energy_j = measurement.energy_per_token_j(candidate.items_per_step)
        peak_bytes = measurement.peak_bytes if _is_whole(record) else None
        low, high = _interval(point)
        rows.append(
            Row(
                run=run,
                digest=record.digest,
                workload=candidate.spec.title,
                mode=candidate.mode,
                model=name(candidate),
                length=candidate.length if candidate.spec.items_axis else None,
                cell=_cell(candidate),
                batch=candidate.batch_size,
                version=candidate.version,
                precision=candidate.precision,
                checkpointing=str(candidate.axes.get(_CHECKPOINTING, "")),
                others=_others(candidate),
                unit=rate_unit([candidate]),
                parameters=measurement.parameters,
                rate=_short(point.tokens_per_s) if point else None,
                low=low,
                high=high,
                peak_mb=_mb(peak_bytes),
                needs_mb=_mb(predicted.peak_bytes_high if predicted and peak_bytes else peak_bytes),
                energy_mj=None if energy_j is None else _short(energy_j * 1000),
                minutes=minutes_until(record, began),
                fits=point is not None,
                predicted=predicted is not None,
                frontier=record.digest in front,
                recommended=record.digest in chosen,
                outcome=measurement.outcome.value,
                note=_note(record),
                ledger=tuple(
                    cell
                    for line in measurement.ledger
                    for cell in (line.name, round(line.size_bytes / MIB, 1))
                ),
                settings=_settings(point, texts) if point else "",
            )
        )
    return _ordered(rows)


def _ordered(rows: Sequence[Row]) -> list[Row]:
    sizes: dict[str, float] = {}
    for row in rows:
        sizes[row.model] = min(sizes.get(row.model, math.inf), row.parameters or math.inf)
    return sorted(
        rows,
        key=lambda row: (
            row.mode != "train",
            sizes[row.model],
            row.model,
            row.length or 0,
            row.cell,
            -(row.rate or 0),
            row.batch,
        ),
    )


def began_at(results: Results) -> datetime | None:
    """When the first record of a run began; None where no time was noted."""
    return min((started for record in results.records if (started := record.started())), default=None)


def minutes_until(record: Record, began: datetime | None) -> float | None:
    """From the beginning of a run to the end of a record; None where times were not noted."""
    started = record.started()
    if started is None or began is None:
        return None
    return round(((started - began).total_seconds() + record.measurement.wall_s) / 60, 3)


def pack(rows: Iterable[Row]) -> dict[str, object]:
    """The rows for JSON: a list each in the order of `columns`, whose texts are numbers of `texts`.

    A settings file is the numbers of its lines.
    """
    numbers: dict[str, int] = {}

    def number(text: str) -> int:
        return numbers.setdefault(text, len(numbers))

    def cell(name: str, value: object) -> object:
        if name == "settings":
            assert isinstance(value, str)
            return [number(line) for line in value.splitlines()]
        if isinstance(value, tuple):
            return [number(part) if isinstance(part, str) else part for part in value]
        if isinstance(value, bool):
            return int(value)
        return number(value) if isinstance(value, str) and name != "digest" else value

    columns = [field.name for field in fields(Row)]
    files: dict[str, int] = {}
    packed = []
    for row in rows:
        cells = [cell(name, getattr(row, name)) for name in columns[:-1]]
        packed.append([*cells, files.setdefault(row.settings, len(files))])
    settings = [cell("settings", text) for text in files]
    return {"columns": columns, "rows": packed, "settings": settings, "texts": list(numbers)}


def _settings(point: Point, texts: dict[Candidate, str]) -> str:
    """Made once for all batches of a line."""
    candidate = point.candidate
    line = candidate.line()
    if line not in texts:
        texts[line] = ""
        if candidate.mode == "train":
            try:
                settings = settings_of(point)
            except ValueError:  # a model that phase8-train has no name for
                return ""
            if settings is None:
                return ""
            text = to_yaml(settings.model_copy(update={"measured": None, "predicted": None}))
            texts[line] = text.replace(_BATCH.format(candidate.batch_size), _BATCH, 1)
    return texts[line]


def cell_axes(candidate: Candidate) -> list[Axis]:
    """The axes by which the cells of a model are told apart, such as the sequence."""
    return [axis for axis in candidate.spec.axes if axis.is_cell_key and not axis.is_of_model]


def _cell(candidate: Candidate) -> str:
    said = (axis.say(candidate.axes[axis.name]) for axis in cell_axes(candidate))
    return " ".join(filter(None, said))


def _others(candidate: Candidate) -> str:
    shown = {candidate.spec.version_axis, _PRECISION, _CHECKPOINTING}
    axes = (axis for axis in setting_axes([candidate]) if axis.name not in shown)
    return ", ".join(word for axis in axes if (word := axis.say(candidate.axes[axis.name])))


def _interval(point: Point | None) -> tuple[float | None, float | None]:
    if point is None:
        return None, None
    predicted = point.record.measurement.predicted
    if predicted is not None:
        return _short(predicted.tokens_per_s_low), _short(predicted.tokens_per_s_high)
    std = point.tokens_per_s_std or 0.0
    return _short(point.tokens_per_s - std), _short(point.tokens_per_s + std)


def _note(record: Record) -> str:
    measurement = record.measurement
    parts = [" ".join(measurement.message.split())[:300]]
    if measurement.tainted:
        parts.append(f"disturbed: {', '.join(measurement.tainted)}")
    return "; ".join(part for part in parts if part)


def _is_whole(record: Record) -> bool:
    """Whether the peak says what it needs: where memory was refused it says where that was."""
    outcome = record.measurement.outcome
    return outcome in (Outcome.OK, Outcome.OVER_BUDGET) or record.measurement.predicted is not None


def _mb(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else round(size_bytes / MIB, 1)


def _short(value: float) -> float:
    """To five figures: more than any of them is known to."""
    return float(f"{value:.5g}")
