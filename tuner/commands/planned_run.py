"""A plan from beginning to end: the run directory, the prediction, and what is written and printed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ..machine.environment import driver_versions
from ..places.choice import tracers_at
from ..predict.fits import RECOMMEND
from ..predict.outlook import Outlook
from ..predict.prediction import Predictor
from ..predict.rate.profiles import GpuProfile
from ..predict.store import PredictionStore
from ..records.database import open_sqlite
from ..records.journal import Journal, read_records
from ..records.replayed import replayed
from ..records.results import Results
from ..records.run_directory import RunDirectory, check_run_directory
from ..report.display import Beginning, Display, Ending
from ..report.early import Expected
from ..report.facts import RunFacts
from ..report.outputs import write_outputs
from ..search.decisions import decide, planned_device, to_records
from ..search.estimates import keep_estimates, read_estimates
from ..search.plan_summary import PlanSummary, basis_of, read_summary, write_summary
from ..search.progress import StopReason
from ..study.definition import StudyDefinition
from ..training.recommended import write_recommendations
from ..values.candidate import Candidate
from ..values.errors import InterruptedStudyError, NothingFitsError, UserInputError
from ..values.interrupt import interrupt_deferred
from ..values.record import Record
from ..values.sizes import format_budget
from .card_study import for_card
from .request import RunRequest, read_study, run_root, settle_budget

DEFAULT_STUDY = "default"
_MEASURING_ONLY = {
    "--gpus": "gpus",
    "--gpu-model": "gpu_model",
    "--storage": "storage",
    "--trials": "trials",
    "--time": "time_limit_s",
    "--timeout": "timeout_s",
    "--seed": "seed",
    "--sampler": "sampler",
    "--exhaustive": "exhaustive",
}


def plan(request: RunRequest, profile: GpuProfile, display: Display) -> Path:
    """Predict a whole study for a card, then write and show what was found; nothing is measured.

    Returns the run's folder.
    Raises: UserInputError, NothingFitsError (after files are written), InterruptedStudyError.
    """
    for option, field in _MEASURING_ONLY.items():
        if getattr(request, field) is not None:
            raise UserInputError(
                f"{option}: expected where something is measured, got it for a plan, which predicts the "
                "whole study; leave it out, or measure on this computer with --device cpu"
            )
    definition, text = for_card(*read_study(request.study or DEFAULT_STUDY, request), profile, display.tell)
    budget_bytes = settle_budget(request, profile.capacity_bytes, f"the {profile.title} has", display.tell)
    root = run_root(request, definition, profile.name)
    check_run_directory(root, definition, budget_bytes)
    beginning = Beginning(
        study=definition.name,
        budget_bytes=budget_bytes,
        device=profile.title,
        run_root=root,
        is_plan=True,
    )
    display.begin(beginning)
    if definition.missing_versions:
        display.tell(f"not in this installation, left out: kernels {', '.join(definition.missing_versions)}")
    with (
        tracers_at(request.cluster) as tracers,
        display,
        PredictionStore(tracers=tracers) as store,
    ):
        predictor = Predictor(profile=profile, store=store, reserve_bytes=request.reserve_bytes or 0)
        try:
            summary, records = plan_in(root, definition, text, predictor, budget_bytes, display)
        except KeyboardInterrupt:
            raise InterruptedStudyError(
                "interrupted; what was predicted is kept: run the same command to go on"
            ) from None
    facts = RunFacts(
        run_root=root,
        study_name=definition.name,
        workloads=definition.workloads,
        budget_bytes=budget_bytes,
        reserve_bytes=request.reserve_bytes or 0,  # nobody is seen on a card that is not here
        device=planned_device(profile),
        versions=driver_versions(),
        timing=definition.timing,
        command=request.command,
        missing_versions=definition.missing_versions,
        plan=summary,
        estimates=read_estimates(root),
    )
    results = Results.of(records)
    with interrupt_deferred():
        recommended = write_outputs(results, facts)
    problem = None
    if not results.frontier:
        problem = NothingFitsError(
            f"no configuration is predicted to fit {format_budget(budget_bytes)} on {profile.title}; raise "
            f"--vram, or plan smaller models, sequences or batches with --study; see {root / 'report.md'}"
        )
    display.end(
        Ending(
            results=results,
            run_root=root,
            recommended=recommended,
            plan=summary,
            problem=None if problem is None else str(problem),
        )
    )
    if problem is not None:
        raise problem
    return root


class _EarlyFiles:
    """Writes the recommendations of a plan while it is made, whenever a better one is found."""

    def __init__(self, expected: Expected, root: Path) -> None:
        self._expected, self._folder = expected, root / "recommended"
        self.outlooks: list[Outlook] = []

    def __call__(self, outlook: Outlook) -> None:
        self.outlooks.append(outlook)
        if self._expected.add(outlook):
            with interrupt_deferred():
                write_recommendations(self._expected.beside(()), self._folder)


def plan_in(
    root: Path,
    definition: StudyDefinition,
    definition_text: str,
    predictor: Predictor,
    budget_bytes: int,
    display: Display,
) -> tuple[PlanSummary, tuple[Record, ...]]:
    """Plan a study in a run directory, or take the plan that is there already.

    Raises: UserInputError for a directory of something else, or of a plan with other figures.
    """
    with RunDirectory.open(
        root,
        definition=definition,
        definition_text=definition_text,
        budget_bytes=budget_bytes,
        device=planned_device(predictor.profile),
    ) as directory:
        paths = directory.paths
        # A plan whose records were lost is made again, of what is in the cache.
        summary = read_summary(paths.plan) if read_records(paths.journal) else None
        if summary is not None and summary.basis != basis_of(predictor, definition.workloads):
            raise UserInputError(
                f"{root}: expected a plan of this version with these figures of the card, this --reserve "
                "and this code of its workloads, got one of others; remove it to plan again, or name another "
                "run with --run"
            )
        if summary is None:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            early = _EarlyFiles(Expected(predictor.profile, budget_bytes, now), root)
            problems: dict[str, int] = {}

            def count(line: Candidate, problem: str) -> None:
                problems[problem] = problems.get(problem, 0) + 1

            found = decide(
                definition,
                predictor,
                budget_bytes,
                early,
                display.show_predicted,
                count,
                lambda lines: display.tell(
                    f"predicted too, where memory limits: what saves it, {lines} lines"
                ),
            )
            display.close()
            for problem, lines in problems.items():
                display.tell(f"not predicted, so left out of the plan, {lines} lines: {problem}")
            made = to_records(found, predictor.profile, budget_bytes=budget_bytes, started_at=now)
            summary = found.summary
            kept = {record.digest for record in read_records(paths.journal)}
            with interrupt_deferred(), Journal(paths.journal) as journal:
                journal.append(*(record for record in made if record.digest not in kept))
                room_bytes = RECOMMEND.budget_bytes(budget_bytes)
                keep_estimates(root, early.outlooks, room_bytes, predictor.profile, budget_bytes, now)
                write_summary(paths.plan, summary)
        records = read_records(paths.journal)
        store = replayed(open_sqlite(paths.database), definition, records)
        store.mark(StopReason.EXHAUSTED)
        return summary, records
