"""A space that was measured whole, as a table: what strategies are replayed against."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from ..tuner.predict.fits import LAUNCH
from ..tuner.predict.outlook import Outlook, Rung
from ..tuner.predict.prediction import Predictor
from ..tuner.predict.rate.profiles import GpuProfile
from ..tuner.predict.rate.throughput import StepEstimate
from ..tuner.predict.store import PredictionStore
from ..tuner.records.frontier import settle, to_points
from ..tuner.values.candidate import DEFAULT_WORKLOAD, Candidate, fields_of
from ..tuner.values.outcome import Outcome
from ..tuner.values.record import Record

_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What measuring a candidate found. Rates and bytes are None where it did not fit or failed.

    samples: timed steps that the mean and the sample standard deviation are of. seconds: all attempts
    together, with starting, compiling and checking; setup_s: of the last, until the first step had run.
    """

    outcome: Outcome
    tokens_per_s: float | None
    tokens_per_s_std: float | None
    samples: int
    peak_bytes: int | None
    parameters: int | None
    body_parameters: int | None
    setup_s: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Entries by candidate under one budget, and what was predicted of their lines, where that was asked.

    ran_on: GPU and software of the measurements, as `environment.environment` names them.
    """

    budget_bytes: int
    ran_on: Mapping[str, Any]
    entries: Mapping[Candidate, Entry]
    outlooks: tuple[Outlook, ...] = ()

    @property
    def batches(self) -> dict[Candidate, tuple[int, ...]]:
        """The batches of every line, ascending."""
        found: dict[Candidate, list[int]] = {}
        for candidate in self.entries:
            found.setdefault(candidate.line(), []).append(candidate.batch_size)
        return {line: tuple(sorted(each)) for line, each in found.items()}

    @property
    def feasible(self) -> dict[Candidate, Entry]:
        """What fitted."""
        return {c: entry for c, entry in self.entries.items() if entry.outcome is Outcome.OK}


def add_records(table: Table | None, records: Sequence[Record]) -> Table:
    """A table with the launched and settled candidates of a run beside those that it has already.

    Raises: ValueError for records under another budget, or of another GPU.
    """
    launched = [record for record in records if record.attempt > 0]
    entries = {} if table is None else dict(table.entries)
    budgets = {record.budget_bytes for record in launched} | ({table.budget_bytes} if table else set())
    if len(budgets) != 1:
        raise ValueError(f"expected measurements under one budget, got {sorted(budgets)}")
    ran_on = _ran_on(launched)
    if table is not None and ran_on["gpu"] != table.ran_on["gpu"]:
        raise ValueError(f"expected measurements on one GPU, {table.ran_on['gpu']}, got {ran_on['gpu']}")
    seconds: dict[str, float] = {}
    for record in launched:
        seconds[record.digest] = seconds.get(record.digest, 0.0) + record.measurement.wall_s
    rates = {point.record.digest: point for point in to_points(launched)}
    for record in settle(launched):
        point, found = rates.get(record.digest), record.measurement
        entries.setdefault(
            record.to_candidate(),
            Entry(
                outcome=found.outcome,
                tokens_per_s=None if point is None else point.tokens_per_s,
                tokens_per_s_std=None if point is None else point.tokens_per_s_std,
                samples=len(found.samples_s),
                peak_bytes=found.peak_bytes,
                parameters=found.parameters,
                body_parameters=found.body_parameters,
                setup_s=found.setup_s or 0.0,
                seconds=seconds[record.digest],
            ),
        )
    return Table(
        budget_bytes=budgets.pop(), ran_on=ran_on if table is None else table.ran_on, entries=entries
    )


def _ran_on(records: Iterable[Record]) -> dict[str, Any]:
    for record in records:
        device, versions = record.measurement.device, record.measurement.versions
        if device is not None and versions is not None:
            return {
                "gpu": device.name,
                "gpu_memory_bytes": device.total_bytes,
                "compute_capability": device.compute_capability,
                "driver": versions.driver,
                "cuda": versions.cuda,
                "torch": versions.torch,
                "triton": versions.triton,
                "python": versions.python,
                "os": versions.os,
            }
    raise ValueError("expected a measurement that says on what it ran, got none")


def predicted(table: Table, profile: GpuProfile) -> Table:
    """The table with the outlooks of its lines on a card, each over the batches that it has; minutes where
    the lines were not traced before."""
    with PredictionStore() as store:
        predictor = Predictor(profile=profile, store=store)
        outlooks = predictor.look_ahead(list(table.batches.items()), table.budget_bytes, LAUNCH)
    return Table(
        budget_bytes=table.budget_bytes,
        ran_on=table.ran_on,
        entries=table.entries,
        outlooks=tuple(outlooks),
    )


def to_json(table: Table) -> str:
    """One line a candidate, and one a line of candidates."""
    columns = [*fields_of([DEFAULT_WORKLOAD]), *(field.name for field in fields(Entry))]
    rows = [json.dumps([*c.to_dict().values(), *astuple(entry)]) for c, entry in table.entries.items()]
    outlooks = [
        json.dumps({"line": o.line.to_dict(), "largest": o.largest, "rungs": _rungs(o)})
        for o in table.outlooks
    ]
    return (
        f'{{"format": {_FORMAT}, "budget_bytes": {table.budget_bytes},\n'
        f'"ran_on": {json.dumps(table.ran_on)},\n"columns": {json.dumps(columns)},\n'
        f'"rows": [\n{_lines(rows)}\n],\n"outlooks": [\n{_lines(outlooks)}\n]}}\n'
    )


def _lines(texts: Sequence[str]) -> str:
    return ",\n".join(texts)


def _rungs(outlook: Outlook) -> dict[str, list[float]]:
    return {
        str(batch): [rung.peak_bytes, *(round(value, 7) for value in astuple(rung.step))]
        for batch, rung in outlook.rungs.items()
    }


def from_json(text: str) -> Table:
    """Inverse of `to_json`.

    Raises: ValueError for another format.
    """
    data = json.loads(text)
    if data["format"] != _FORMAT:
        raise ValueError(f"expected a table of format {_FORMAT}, got {data['format']}")
    entries = {}
    for row in data["rows"]:
        values = dict(zip(data["columns"], row, strict=True))
        candidate = Candidate.from_dict({name: values.pop(name) for name in fields_of([DEFAULT_WORKLOAD])})
        entries[candidate] = Entry(**{**values, "outcome": Outcome(values["outcome"])})
    table = Table(budget_bytes=data["budget_bytes"], ran_on=data["ran_on"], entries=entries)
    return Table(
        budget_bytes=table.budget_bytes,
        ran_on=table.ran_on,
        entries=entries,
        outlooks=tuple(_outlook(each, table.batches) for each in data["outlooks"]),
    )


def _outlook(data: dict[str, Any], batches: Mapping[Candidate, Sequence[int]]) -> Outlook:
    line = Candidate.from_dict(data["line"])
    return Outlook(
        line=line,
        batches=batches[line],
        largest=data["largest"],
        rungs={
            int(batch): Rung(peak_bytes=int(values[0]), step=_step(values[1:]))
            for batch, values in data["rungs"].items()
        },
    )


def _step(seconds: Sequence[float]) -> StepEstimate:
    names = [field.name for field in fields(StepEstimate)]
    return StepEstimate(**dict(zip(names, seconds, strict=True)))


def read_table(path: Path) -> Table:
    """Raises: OSError, ValueError."""
    return from_json(path.read_text(encoding="utf-8"))
