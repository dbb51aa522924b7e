"""A plan: a whole study decided by prediction, for a card that need not be here.

A prediction costs milliseconds, so nothing is sampled: of every line is known which batches fit, and the
predicted frontier is that of the whole space. What a user asks for is recorded, marked predicted: the
frontier, the fastest configuration of every model and sequence with what one setting changes in it, and what
takes least there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..machine.environment import driver_versions
from ..predict.fits import RECOMMEND
from ..predict.outlook import Outlook, Prediction
from ..predict.prediction import Predictor
from ..predict.rate.profiles import GpuProfile
from ..records.cells import Cell, best_of_cells, cell_of
from ..records.knowledge import PREDICTED_PEAK_BYTES
from ..study.definition import StudyDefinition
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from ..values.measurement import DeviceInfo, Measurement, PredictedFigures, Versions
from ..values.outcome import Outcome
from ..values.record import Record
from .cells import top_batch
from .foresight import in_order
from .plan_summary import PlanSummary, basis_of
from .savings import due_by_prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A decided study: how many fit, and the predictions that are worth recording, in order."""

    summary: PlanSummary
    predictions: tuple[Prediction, ...]


def decide(
    definition: StudyDefinition,
    predictor: Predictor,
    budget_bytes: int,
    on_outlook: Callable[[Outlook], None] = lambda outlook: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_problem: Callable[[Candidate, str], None] = lambda line, problem: None,
    on_savings: Callable[[int], None] = lambda lines: None,
) -> Plan:
    """Decide every candidate of a study. What fits, fits with a margin to spare (`fits.RECOMMEND`).

    on_outlook: has what is found of each line as soon as it is. on_problem: has a line that cannot be
    followed and why; it is left out. on_savings: has the number of lines that are to be predicted besides, as
    memory limits their cells; progress begins anew with them.
    Raises: UserInputError where a version does not take a model; NothingFitsError for less than the context.
    """
    space = SearchSpace(definition)
    if space.is_rows:
        predictions = predictor.predict_all(list(space.enumerate()), budget_bytes)
        fit = sum(prediction.fits for prediction in predictions)
    else:

        def look_ahead(lines: Sequence[Candidate]) -> list[Outlook]:
            asked = [(line, space.batches(line)) for line in in_order(lines)]
            return predictor.look_ahead(asked, budget_bytes, RECOMMEND, on_outlook, on_progress, on_problem)

        outlooks = look_ahead([line for line in space.lines if line not in space.savings])
        if due := due_by_prediction(space, outlooks):
            on_savings(len(due))
            outlooks += look_ahead(due)
        fit = sum(len(outlook.fitting) for outlook in outlooks)
        predictions = _worth_recording(space, outlooks, predictor, budget_bytes)
    return Plan(
        summary=PlanSummary(
            configurations=space.size(),
            fit=fit,
            margin=RECOMMEND.margin,
            basis=basis_of(predictor, definition.workloads),
        ),
        predictions=tuple(predictions),
    )


def _worth_recording(
    space: SearchSpace, outlooks: Sequence[Outlook], predictor: Predictor, budget_bytes: int
) -> list[Prediction]:
    places = {line: place for place, line in enumerate(space.lines)}
    decided = [
        _Decided(outlook, batch, predictor)
        for outlook in sorted(outlooks, key=lambda outlook: places[outlook.line])
        for batch in _worth_deciding(outlook)
    ]
    fitting = [item for item in decided if not item.forecast.is_over]
    anyway = [item for item in fitting if item.candidate.line() not in space.savings]
    without = {item.candidate for item in best_of_cells(anyway).values()}
    wanted = _frontier(fitting, predictor, budget_bytes) | _of_cells(decided, fitting) | without
    chosen = [item.candidate for item in decided if item.candidate in wanted]
    return predictor.predict_all(chosen, budget_bytes)


def _worth_deciding(outlook: Outlook) -> list[int]:
    """The rungs that fit, of the largest ones the rounder; where none does, the smallest batch."""
    if not outlook.largest:
        return [outlook.batches[0]]
    top = top_batch(outlook)
    return [batch for batch in {**outlook.rungs, top: None} if batch <= top]


class _Decided:
    """A candidate with its forecast; `least_bytes` of the card it takes in any case."""

    __slots__ = ("body_parameters", "candidate", "forecast", "least_bytes", "tokens_per_s")

    def __init__(self, outlook: Outlook, batch: int, predictor: Predictor) -> None:
        self.candidate, self.forecast = outlook.line.at(batch), outlook.forecast(batch)
        self.tokens_per_s = self.forecast.tokens_per_s.expected
        self.least_bytes = self.forecast.peak_bytes
        _, self.body_parameters = predictor.parameters(self.candidate)

    def beats(self, other: _Decided) -> bool:
        """The same mode's work, at least as good in every objective and better in one."""
        rate, least, size = self.tokens_per_s, self.least_bytes, self.body_parameters
        if rate < other.tokens_per_s or least > other.least_bytes or size < other.body_parameters:
            return False
        is_better = rate > other.tokens_per_s or least < other.least_bytes or size > other.body_parameters
        return is_better and self.candidate.mode == other.candidate.mode


def _frontier(fitting: Sequence[_Decided], predictor: Predictor, budget_bytes: int) -> set[Candidate]:
    """The candidates that no other beats in rate, peak and body parameters.

    Peaks are replayed only where they matter: who is beaten with the least that he can take is out.
    """
    exact: list[_Decided] = []
    remaining = list(fitting)
    while remaining:
        front = _undominated(remaining)
        predictions = predictor.predict_all([item.candidate for item in front], budget_bytes)
        for item, prediction in zip(front, predictions, strict=True):
            item.least_bytes = prediction.peak_bytes  # no longer the least only
        exact = _undominated([*exact, *front])
        asked = set(map(id, front))
        remaining = [i for i in remaining if id(i) not in asked and not any(e.beats(i) for e in exact)]
    return {item.candidate for item in exact}


def _undominated(items: Sequence[_Decided]) -> list[_Decided]:
    """Those that no other beats."""
    front: list[_Decided] = []
    # Whoever beats an item comes before it, so that those already in front are all that can.
    for item in sorted(items, key=lambda i: (-i.tokens_per_s, i.least_bytes, -i.body_parameters)):
        if not any(other.beats(item) for other in front):
            front.append(item)
    return front


def _of_cells(decided: Sequence[_Decided], fitting: Sequence[_Decided]) -> set[Candidate]:
    """The fastest of every cell, and of the lines that differ from its line in one setting each the fastest;
    of every cell what takes least, which is for those who ask what a smaller budget would give."""
    best = best_of_cells(fitting)
    least: dict[Cell, _Decided] = {}
    of_lines: dict[Candidate, _Decided] = {}
    for item in decided:
        cell, line = cell_of(item.candidate), item.candidate.line()
        if cell not in least or item.least_bytes < least[cell].least_bytes:
            least[cell] = item
        if line not in of_lines or item.tokens_per_s > of_lines[line].tokens_per_s:
            of_lines[line] = item
    around = [
        item.candidate
        for line, item in of_lines.items()
        if (found := best.get(cell_of(line))) and _is_near(line, found.candidate.line())
    ]
    return {*around, *(item.candidate for item in (*best.values(), *least.values()))}


def _is_near(one: Candidate, other: Candidate) -> bool:
    """Whether two lines differ in one field at most."""
    before, after = one.to_dict(), other.to_dict()
    differing = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    return len(differing) <= 1


def planned_device(profile: GpuProfile) -> DeviceInfo:
    """The card that is predicted for, as records name it."""
    return DeviceInfo(
        kind="predicted",
        name=profile.title,
        total_bytes=profile.capacity_bytes,
        compute_capability=profile.compute_capability,
        shared_memory_per_block_bytes=profile.shared_memory_per_block_bytes,
    )


def to_records(
    plan: Plan, profile: GpuProfile, *, budget_bytes: int, started_at: str, versions: Versions | None = None
) -> list[Record]:
    """The predictions of a plan as records: attempt 0, as nothing was measured."""
    return [
        predicted_record(
            prediction, profile, number=number, budget_bytes=budget_bytes, at=started_at, versions=versions
        )
        for number, prediction in enumerate(plan.predictions)
    ]


def predicted_record(
    prediction: Prediction,
    profile: GpuProfile,
    *,
    number: int,
    budget_bytes: int,
    at: str,
    versions: Versions | None = None,
) -> Record:
    """A prediction as a record: attempt 0, as nothing was measured. number: of its trial."""
    device, versions = planned_device(profile), versions or driver_versions()
    return Record(
        digest=prediction.candidate.digest(),
        candidate=prediction.candidate.identity(),
        trial_number=number,
        attempt=0,
        started_at=at,
        budget_bytes=budget_bytes,
        measurement=_measurement(prediction, device, versions, profile.name),
    )


def _measurement(prediction: Prediction, device: DeviceInfo, versions: Versions, gpu: str) -> Measurement:
    rate, peak = prediction.tokens_per_s, prediction.peak_bytes
    needed = RECOMMEND.needed_bytes(peak)
    if prediction.fits:  # what it takes above that is cache, which the allocator gives back
        needed = min(needed, prediction.budget_bytes)
    stats = {
        "allocated_bytes_peak": prediction.peak_allocated_bytes,
        "reserved_bytes_peak": prediction.peak_reserved_bytes,
    }
    return Measurement(
        outcome=Outcome.OK if prediction.fits else Outcome.PREDICTED_OVER_BUDGET,
        message=(
            f"predicted, not measured: takes {peak} bytes, {needed} with a margin of {RECOMMEND.margin:.0%}"
        ),
        device=device,
        versions=versions,
        parameters=prediction.parameters,
        body_parameters=prediction.body_parameters,
        peak_bytes=peak,
        peak_source=f"predicted: allocator replay, figures of {gpu}",
        ledger=prediction.ledger,
        memory_stats=stats if prediction.fits else stats | {PREDICTED_PEAK_BYTES: needed},
        predicted=PredictedFigures(
            tokens_per_s_low=rate.low,
            tokens_per_s=rate.expected,
            tokens_per_s_high=rate.high,
            limited_by=prediction.limited_by,
            peak_bytes_high=needed,
        ),
    )
