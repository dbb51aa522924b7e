"""What a plan decides and records, with predictions by formula: the frontier is that of the whole space."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from phase8_tune.tuner.measuring.testing import formula
from phase8_tune.tuner.predict.fits import RECOMMEND, FitRule
from phase8_tune.tuner.predict.outlook import Outlook, Prediction, Rate, Rung
from phase8_tune.tuner.predict.prediction import Predictor
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.predict.rate.throughput import StepEstimate
from phase8_tune.tuner.predict.store import PredictionStore
from phase8_tune.tuner.records.cells import Cell, cell_of
from phase8_tune.tuner.records.frontier import Point, find_frontier, to_points
from phase8_tune.tuner.records.recommend import recommend
from phase8_tune.tuner.search.decisions import Plan, decide, to_records
from phase8_tune.tuner.search.plan_summary import PlanSummary, read_summary, write_summary
from phase8_tune.tuner.study.definition import StudyDefinition, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.measurement import LedgerLine
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from .search_bench import ROWS

BUDGET_BYTES = 2 * 2**30
PROFILE = gpu_profile("rtx-3080-laptop")
STUDY = parse_definition(
    """
name: planned
axes:
  model: [nano, small, xl]
  n_seq: [64, 256]
  batch_size: [1, 4, 16, 64]
  kernel_version: [reference, fast]
  gradient_checkpointing: [false, true]
  mixed_precision: [bf16, fp16]
  mode: [train, forward]
""",
    "planned",
)


class FormulaPredictor(Predictor):
    """Predictions of the formula's; a share of a peak, different for each line, is fragmentation."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        super().__init__(profile=PROFILE, store=PredictionStore(folder))
        self.seed = seed
        self.replayed: list[Candidate] = []

    def _figures(self, candidate: Candidate) -> tuple[Rate, int, int]:
        step_s, least, _ = formula(candidate)
        chance = random.Random(f"{self.seed} {candidate.line().digest()}")
        rate = candidate.items_per_step / step_s * chance.choice((1.0, 0.9))
        peak = self.outside_bytes(candidate) + int(least * chance.choice((1.0, 1.2, 1.5)))
        return Rate(low=rate / 2, expected=rate, high=2 * rate), least, peak

    def look_ahead(
        self,
        lines: Sequence[tuple[Candidate, Sequence[int]]],
        budget_bytes: int,
        rule: FitRule,
        on_outlook: Callable[[Outlook], None] = lambda outlook: None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        on_problem: Callable[[Candidate, str], None] = lambda line, problem: None,
    ) -> list[Outlook]:
        found = []
        for line, batches in lines:
            figures = {batch: self._figures(line.at(batch)) for batch in batches}
            fitting = [b for b, (_, _, peak) in figures.items() if peak <= rule.budget_bytes(budget_bytes)]
            rungs = {
                batch: Rung(
                    peak_bytes=self.outside_bytes(line) + least,
                    step=StepEstimate(
                        traffic_s=line.at(batch).items_per_step / rate.expected,
                        arithmetic_s=0.0,
                        floor_s=0.0,
                        host_s=0.0,
                    ),
                )
                for batch, (rate, least, _) in figures.items()
            }
            largest = max(fitting, default=0)
            recommended = self._predicted(line.at(largest), budget_bytes) if fitting else None
            found.append(
                Outlook(line=line, batches=batches, largest=largest, rungs=rungs, recommended=recommended)
            )
            on_outlook(found[-1])
        on_progress(len(lines), len(lines))
        return found

    def predict_all(self, candidates: Sequence[Candidate], budget_bytes: int) -> list[Prediction]:
        self.replayed += candidates
        return [self._predicted(candidate, budget_bytes) for candidate in candidates]

    def _predicted(self, candidate: Candidate, budget_bytes: int) -> Prediction:
        rate, least, peak = self._figures(candidate)
        parameters, body_parameters = self.parameters(candidate)
        return Prediction(
            candidate=candidate,
            gpu=self.profile.name,
            budget_bytes=budget_bytes,
            parameters=parameters,
            body_parameters=body_parameters,
            ledger=(LedgerLine(name="all", size_bytes=peak, source="predicted: formula"),),
            peak_bytes=peak,
            peak_allocated_bytes=least,
            peak_reserved_bytes=peak - self.outside_bytes(candidate),
            peak_op="formula",
            peak_phase="forward",
            fits=peak <= RECOMMEND.budget_bytes(budget_bytes),
            tokens_per_s=rate,
            limited_by="memory traffic",
        )


def records_of(plan: Plan) -> list[Record]:
    return to_records(plan, PROFILE, budget_bytes=BUDGET_BYTES, started_at="2026-01-01T00:00:00+00:00")


def whole(predictor: FormulaPredictor, definition: StudyDefinition = STUDY) -> list[Record]:
    """Every candidate's record, replayed without thinking."""
    candidates = list(SearchSpace(definition).enumerate())
    summary = PlanSummary(configurations=len(candidates), fit=0, margin=RECOMMEND.margin, basis="")
    everything = predictor.predict_all(candidates, BUDGET_BYTES)
    return records_of(Plan(summary=summary, predictions=tuple(everything)))


@pytest.mark.parametrize("seed", range(8))
def test_frontier_and_recommendations_are_those_of_the_whole_space(tmp_path: Path, seed: int) -> None:
    predictor = FormulaPredictor(tmp_path, seed)
    plan = decide(STUDY, predictor, BUDGET_BYTES)
    asked = len(set(predictor.replayed))
    every = whole(predictor)
    chosen = records_of(plan)
    for view in (find_frontier, recommend):
        assert [p.record.digest for p in view(to_points(chosen))] == [
            p.record.digest for p in view(to_points(every))
        ]
    assert plan.summary.configurations == len(every)
    assert plan.summary.fit == sum(record.fits for record in every)
    assert asked < len(every)


def test_the_fastest_is_recorded_with_what_one_setting_changes(tmp_path: Path) -> None:
    predictor = FormulaPredictor(tmp_path)
    recorded = {p.candidate for p in decide(STUDY, predictor, BUDGET_BYTES).predictions}
    points = [
        p for p in to_points(whole(predictor)) if p.candidate.mode == "train" and p.candidate.model == "nano"
    ]
    fastest = max((p for p in points if p.candidate.n_seq == 64), key=lambda p: p.tokens_per_s).candidate
    changes: dict[str, tuple[object, ...]] = {
        "kernel_version": ("reference", "fast"),
        "gradient_checkpointing": (False, True),
        "mixed_precision": ("bf16", "fp16"),
    }
    for field, values in changes.items():
        near = {Candidate.from_dict({**fastest.to_dict(), field: value}) for value in values}
        assert near <= recorded


def test_of_every_cell_what_takes_least_is_recorded(tmp_path: Path) -> None:
    """Who asks for a smaller budget than the plan's finds its sequence there."""
    predictor = FormulaPredictor(tmp_path)
    recorded = {p.candidate for p in decide(STUDY, predictor, BUDGET_BYTES).predictions}
    least: dict[Cell, Point] = {}
    for point in to_points(whole(predictor)):
        cell = cell_of(point.candidate)
        if cell not in least or point.peak_bytes < least[cell].peak_bytes:
            least[cell] = point
    assert {point.candidate for point in least.values()} <= recorded


def test_where_nothing_fits_what_takes_least_is_recorded_as_not_fitting(tmp_path: Path) -> None:
    predictor = FormulaPredictor(tmp_path)
    records = [r for r in records_of(decide(STUDY, predictor, BUDGET_BYTES)) if r.candidate["model"] == "xl"]
    assert [(r.candidate["n_seq"], r.candidate["mode"]) for r in records] == [
        (n_seq, mode) for n_seq in (64, 256) for mode in ("train", "forward")
    ]
    for record in records:
        assert record.measurement.outcome is Outcome.PREDICTED_OVER_BUDGET
        assert (record.candidate["batch_size"], record.candidate["gradient_checkpointing"]) == (1, True)


def test_what_fits_only_without_the_margin_does_not_fit(tmp_path: Path) -> None:
    predictor = FormulaPredictor(tmp_path)
    rows = parse_definition(ROWS, "rows")  # every row is recorded, fit or not
    candidate = next(SearchSpace(rows).enumerate())
    peak = predictor._figures(candidate)[2]
    for budget_bytes, fits in ((peak, False), (RECOMMEND.needed_bytes(peak) + 2, True)):
        plan = decide(rows, predictor, budget_bytes)
        found = [r for r in to_records(plan, PROFILE, budget_bytes=budget_bytes, started_at="") if r.fits]
        assert (candidate.digest() in {r.digest for r in found}) is fits
        for point in recommend(to_points(found)):
            assert point.record.measurement.predicted is not None
            assert point.record.measurement.predicted.peak_bytes_high <= budget_bytes


def test_every_row_of_a_table_is_recorded_in_its_order(tmp_path: Path) -> None:
    rows = parse_definition(ROWS, "rows")
    plan = decide(rows, FormulaPredictor(tmp_path), BUDGET_BYTES)
    assert [p.candidate for p in plan.predictions] == list(SearchSpace(rows).enumerate())


def test_a_record_says_that_it_was_predicted(tmp_path: Path) -> None:
    for record in records_of(decide(STUDY, FormulaPredictor(tmp_path), BUDGET_BYTES)):
        measurement = record.measurement
        assert record.attempt == 0
        assert measurement.samples_s == ()
        assert measurement.device is not None
        assert (measurement.device.kind, measurement.device.name) == ("predicted", PROFILE.title)
        assert measurement.peak_source is not None
        assert measurement.peak_source.startswith("predicted")
        assert measurement.versions is not None
        assert measurement.versions.cuda is None


def test_a_summary_is_read_back_and_an_edited_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert read_summary(path) is None
    summary = PlanSummary(configurations=3, fit=2, margin=RECOMMEND.margin, basis="0")
    write_summary(path, summary)
    assert read_summary(path) == summary
    path.write_text("{}")
    with pytest.raises(UserInputError, match="expected a plan's summary"):
        read_summary(path)


SAVING = parse_definition(
    """
name: saving
axes:
  - model: [small, xl]
    n_seq: [64]
    batch_size: [1, 4, 4096]
    kernel_version: [fast]
    gradient_checkpointing: [none]
    mixed_precision: [bf16]
  - tried_where: memory_limits
    model: [small, xl]
    n_seq: [64]
    batch_size: [1, 4, 4096]
    kernel_version: [fast]
    gradient_checkpointing: [full]
    mixed_precision: [bf16]
    optimizer_state: [8bit]
    master_weights: [bf16_sr]
""",
    "saving",
)


def test_a_plan_records_what_saves_memory_beside_the_fastest_without(tmp_path: Path) -> None:
    """Of small four fit, of which more would be faster; of xl none fits, and so nothing but what saves."""
    predictor = FormulaPredictor(tmp_path)
    plan = decide(SAVING, predictor, BUDGET_BYTES)
    found = {(p.candidate.model, p.candidate.has_own_optimizer) for p in plan.predictions}
    assert {("small", False), ("small", True), ("xl", True)} <= found
    assert plan.summary.configurations == 12
