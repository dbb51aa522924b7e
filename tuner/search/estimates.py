"""What a study is likely to give under other budgets, from the outlooks that it has anyway; kept in its run.

Of each line is known how many of its batches fit a budget. What a batch takes is drawn as a straight line
through the smallest batch and the largest that fits, and how fast it is follows from the outlook. That costs
nothing, where predicting as a plan does (`budgets.predict_under`) takes as long as a plan for each budget.
Tokens/s hardly depend on how far the batch is off.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..goals.what_if import budgets_around
from ..machine.environment import driver_versions
from ..predict.fits import RECOMMEND
from ..predict.outlook import Outlook
from ..predict.rate.profiles import GpuProfile
from ..records.cells import best_of_cells
from ..records.frontier import Point, find_frontier, to_points
from ..records.journal import Journal, read_records
from ..values.candidate import Candidate
from ..values.measurement import DeviceInfo, Measurement, PredictedFigures
from ..values.outcome import Outcome
from ..values.record import Record
from .cells import top_batch
from .decisions import planned_device

FILE = "budgets.jsonl"
"""In the run's folder: a record a line, each with its budget."""


def estimate_under(
    outlooks: Iterable[Outlook], room_bytes: int, profile: GpuProfile, budgets_bytes: Sequence[int], at: str
) -> list[Record]:
    """The frontier and the fastest of each cell under each budget, as predicted records.

    room_bytes: what a process might take where the outlooks are of. A budget above what the card has is that
    of a card as fast with as much memory. at: when this was, in ISO 8601. Lines of models whose parameters
    are not known without building them are left out.
    """
    lines = [
        _Line(outlook, room_bytes, counts)
        for outlook in outlooks
        if (counts := _parameters(outlook.line)) is not None
    ]
    found: list[Record] = []
    for budget_bytes in budgets_bytes:
        capacity_bytes = max(profile.capacity_bytes, budget_bytes)
        device = planned_device(profile).model_copy(update={"total_bytes": capacity_bytes})
        records = [
            line.record(batch, device, budget_bytes, at)
            for line in lines
            for batch in line.batches(RECOMMEND.budget_bytes(budget_bytes))
        ]
        points = to_points(records)
        wanted = {p.record.digest for p in (*find_frontier(points), *best_of_cells(points).values())}
        found += [record for record in records if record.digest in wanted]
    return found


def keep_estimates(
    root: Path, outlooks: Iterable[Outlook], room_bytes: int, profile: GpuProfile, budget_bytes: int, at: str
) -> None:
    """Keep what is likely under other budgets in the folder of a run of one, in the place of earlier ones.

    Raises: UserInputError where that cannot be written.
    """
    path = root / FILE
    path.unlink(missing_ok=True)
    records = estimate_under(outlooks, room_bytes, profile, budgets_around(budget_bytes), at)
    if records:
        with Journal(path) as journal:
            journal.append(*records)


def read_estimates(root: Path) -> dict[int, list[Point]]:
    """The points under each budget, ascending; empty where a run has none.

    Raises: UserInputError for a file that cannot be read, or that a later version of this program wrote.
    """
    found: dict[int, list[Record]] = {}
    for record in read_records(root / FILE):
        found.setdefault(record.budget_bytes, []).append(record)
    return {budget_bytes: to_points(found[budget_bytes]) for budget_bytes in sorted(found)}


def _parameters(line: Candidate) -> tuple[int, int] | None:
    """All of them, and those without the position table."""
    spec = line.spec
    if spec.parameters is None:
        return None
    count = spec.parameters(line.model, line.axes)
    positions = spec.position_parameters
    return count, count - (0 if positions is None else positions(line.model, line.axes))


class _Line:
    """An outlook, with what its batches take as a straight line."""

    def __init__(self, outlook: Outlook, room_bytes: int, parameters: tuple[int, int]) -> None:
        self._outlook, self._parameters = outlook, parameters
        self._least = outlook.batches[0]
        self._start_bytes = outlook.forecast(self._least).peak_bytes
        if outlook.largest:
            self._slope_bytes = (room_bytes - self._start_bytes) / max(outlook.largest - self._least, 1)
        else:  # it takes more than the room, who knows how much
            self._start_bytes = max(self._start_bytes, room_bytes)
            self._slope_bytes = float(self._start_bytes)

    def needed_bytes(self, batch: int) -> int:
        """What a process is likely to take with a batch."""
        return int(self._start_bytes + self._slope_bytes * (batch - self._least))

    def batches(self, room_bytes: int) -> list[int]:
        """The rungs that are likely to fit, and the largest batch that is, or a rounder one just below it."""
        allowed = self._outlook.batches
        fitting = bisect_right(allowed, room_bytes, key=self.needed_bytes)
        if not fitting:
            return []
        top = top_batch(replace(self._outlook, largest=allowed[fitting - 1]))
        return sorted({batch for batch in self._outlook.rungs if batch < top} | {top})

    def record(self, batch: int, device: DeviceInfo, budget_bytes: int, at: str) -> Record:
        """A batch as a predicted record under a budget."""
        candidate, forecast = self._outlook.line.at(batch), self._outlook.forecast(batch)
        rate, peak_bytes = forecast.tokens_per_s, self.needed_bytes(batch)
        return Record(
            digest=candidate.digest(),
            candidate=candidate.identity(),
            trial_number=0,
            attempt=0,
            started_at=at,
            budget_bytes=budget_bytes,
            measurement=Measurement(
                outcome=Outcome.OK,
                message="predicted roughly, not measured: from what fits another budget",
                device=device,
                versions=driver_versions(),
                parameters=self._parameters[0],
                body_parameters=self._parameters[1],
                peak_bytes=peak_bytes,
                peak_source="predicted roughly: from what fits another budget",
                predicted=PredictedFigures(
                    tokens_per_s_low=rate.low,
                    tokens_per_s=rate.expected,
                    tokens_per_s_high=rate.high,
                    limited_by=forecast.limited_by,
                    peak_bytes_high=min(RECOMMEND.needed_bytes(peak_bytes), budget_bytes),
                ),
            ),
        )
