"""A search from beginning to end: the device, the run directory, what is written and what is printed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ..places.choice import choose_place
from ..places.place import Devices, Job
from ..predict.rate.calibration import present_profile
from ..predict.rate.profiles import chosen_profile
from ..records.following import Follower
from ..records.journal import read_records
from ..records.results import Results
from ..records.run_directory import RunPaths, check_run_directory, read_run_info
from ..records.samplers import check_sampler
from ..records.shared_study import shared_study
from ..report.display import Beginning, Display, Ending
from ..report.early import EarlyOutputs, Expected
from ..report.facts import RunFacts
from ..report.outputs import write_outputs
from ..search.estimates import keep_estimates, read_estimates
from ..search.foresight import Foresight
from ..search.progress import SearchEvent, StopReason
from ..search.search import run_search
from ..search.skips import count_skips
from ..study.definition import StudyDefinition
from ..values.errors import (
    DeviceError,
    InterruptedStudyError,
    NothingFitsError,
    Phase8TuneError,
    UserInputError,
)
from ..values.interrupt import interrupt_deferred
from ..values.outcome import Outcome
from ..values.sizes import format_budget
from .ahead import Ahead, working_ahead
from .planned_run import plan
from .request import RunRequest, read_study, run_root, settle_budget, settle_reserve

_DEFAULT_STUDIES = {"cuda": "default", "cpu": "cpu"}


@dataclass(frozen=True, kw_only=True, slots=True)
class DoneRun:
    """A run that has come to its end; recommended: the files that were measured, none of a plan."""

    root: Path
    recommended: tuple[Path, ...] = ()


def execute(request: RunRequest, display: Display) -> DoneRun:
    """Search, or go on with a search, then write and show what was found; without a GPU, plan for one.

    Raises: UserInputError, NothingFitsError, DeviceError, InterruptedStudyError; files are written before.
    """
    asked = chosen_profile(request.gpu, request.gpu_file)
    if asked is not None:
        if request.device != "auto":
            option = "--gpu" if request.gpu_file is None else "--gpu-file"
            raise UserInputError(
                f"{option}: plans for a card, got --device {request.device} too, which measures; "
                "leave out one"
            )
        return DoneRun(root=plan(request, asked, display))
    chosen = None if request.study is None else read_study(request.study, request)
    place = choose_place(
        cluster=request.cluster, gpu_model=request.gpu_model, gpus=request.gpus, device=request.device
    )
    if place.kind == "predicted":
        return DoneRun(root=plan(request, present_profile(), display))
    definition, text = chosen or read_study(_DEFAULT_STUDIES[place.kind], request)
    check_sampler(definition.search.sampler)
    root = run_root(request, definition, place.kind)
    with shared_study(request.storage, root, take_over=request.is_taken_over, tell=display.tell) as follower:
        begun_on = read_run_info(root).device_name if RunPaths(root=root).info.exists() else None
        with place.opened(definition, begun_on=begun_on, tell=display.tell) as devices:
            return _measure(request, display, devices, definition, text, root, follower)


def _measure(
    request: RunRequest,
    display: Display,
    devices: Devices,
    definition: StudyDefinition,
    text: str,
    root: Path,
    follower: Follower | None,
) -> DoneRun:
    """The search on devices that are there. text: of the study. follower: of its database, where it has one.

    Raises: as `execute`.
    """
    budget_bytes = settle_budget(request, devices.total_bytes, devices.owner, display.tell)
    check_run_directory(root, definition, budget_bytes)
    timing = definition.timing
    if request.timeout_s is not None:
        timing = timing.model_copy(update={"timeout_s": request.timeout_s})
    earlier = read_records(RunPaths(root=root).journal)
    beginning = Beginning(
        study=definition.name,
        budget_bytes=budget_bytes,
        device=devices.describe(),
        run_root=root,
        is_plan=False,
        earlier=earlier,
    )
    display.begin(beginning)
    if definition.missing_versions:
        display.tell(f"not in this installation, left out: kernels {', '.join(definition.missing_versions)}")
    before = earlier if devices.kind == "cuda" else ()
    reserve_bytes = settle_reserve(request, budget_bytes, devices.other_uses(), before, display.tell)
    problem: Phase8TuneError | None = None
    reason: StopReason | None = None
    facts: RunFacts | None = None
    ahead: Ahead | None = None
    expected: Expected | None = None
    try:
        with (
            display,
            working_ahead(
                definition,
                devices,
                budget_bytes=budget_bytes,
                reserve_bytes=reserve_bytes,
                root=root,
                tell=display.tell,
            ) as ahead,
            devices.executor(
                Job(
                    budget_bytes=budget_bytes,
                    reserve_bytes=reserve_bytes,
                    root=root,
                    timing=timing,
                    earlier=earlier,
                    outside_bytes=0 if ahead is None else ahead.profile.outside_bytes,
                ),
                display.tell,
            ) as executor,
        ):
            display.watch(devices.gauges())
            facts = RunFacts(
                run_root=root,
                study_name=definition.name,
                workloads=definition.workloads,
                budget_bytes=budget_bytes,
                reserve_bytes=reserve_bytes,
                device=executor.device,
                versions=executor.versions,
                timing=timing,
                command=request.command,
                missing_versions=definition.missing_versions,
            )
            if ahead is not None:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                expected = Expected(ahead.profile, budget_bytes, now)
            foresight = None if ahead is None else ahead.foresight
            early = EarlyOutputs(facts, earlier, expected, display.tell)
            reason = run_search(
                definition,
                executor,
                root,
                budget_bytes=budget_bytes,
                on_event=_Follower(display, early, foresight),
                definition_text=text,
                foresight=foresight,
                preparation=None if ahead is None else ahead.compiler,
                follower=follower,
            ).stop_reason
    except Phase8TuneError as error:  # no device is left, or nothing can be written any more
        problem = error
    except KeyboardInterrupt:  # before the search began, or while workers were being ended after it
        reason = StopReason.INTERRUPTED
    if facts is None:  # no device was ever there, so that nothing was measured in this session
        raise problem or KeyboardInterrupt
    results = Results.of(read_records(RunPaths(root=root).journal))
    if ahead is not None:
        facts = replace(facts, skips=count_skips(results.settled, ahead.foresight))
    points = results.recommended if expected is None else expected.beside(results.recommended)
    # Whatever ended the search: what was measured is written and shown.
    recommended: list[Path] = []
    if results.records or problem is None:
        try:
            with interrupt_deferred():
                if ahead is not None and ahead.foresight.is_whole:
                    now = datetime.now(UTC).isoformat(timespec="seconds")
                    outlooks = ahead.foresight.known
                    keep_estimates(root, outlooks, budget_bytes, ahead.profile, budget_bytes, now)
                facts = replace(facts, estimates=read_estimates(root))
                recommended = write_outputs(results, facts, points)
        except UserInputError as error:
            raise problem or error from None
        problem = problem or _judge(results, reason, root)
        display.end(
            Ending(
                results=results,
                run_root=root,
                recommended=recommended,
                reason=reason,
                problem=None if problem is None else str(problem),
            )
        )
    if problem is not None:
        raise problem
    return DoneRun(root=root, recommended=tuple(recommended))


class _Follower:
    """What a search's events lead to: they are shown, and the run's files kept up to date."""

    def __init__(self, display: Display, early: EarlyOutputs, foresight: Foresight | None) -> None:
        self._display, self._early, self._foresight = display, early, foresight
        self._seen = 0

    def __call__(self, event: SearchEvent) -> None:
        self._display.show(event)
        known = () if self._foresight is None else self._foresight.known
        self._early(event.last, known[self._seen :])
        self._seen = len(known)


def _judge(results: Results, reason: StopReason | None, root: Path) -> Phase8TuneError | None:
    """The error that a run without a usable end is, None for a good one."""
    records = results.settled
    if reason is StopReason.INTERRUPTED:
        return InterruptedStudyError(
            f"interrupted; {len(records)} measured configurations are kept in {root}: "
            "run the same command to go on"
        )
    if results.points:
        return None
    if not records:
        return NothingFitsError("nothing was measured before the time was up; raise --time")
    ended = ", ".join(f"{n} {o.value}" for o, n in Counter(r.measurement.outcome for r in records).items())
    if any(r.measurement.outcome.is_memory for r in records):
        return NothingFitsError(
            f"no configuration fits {format_budget(records[0].budget_bytes)} ({ended}); raise --vram, "
            f"or search smaller models, sequences or batches with --study; see {root / 'report.md'}"
        )
    own = next((r.measurement for r in records if r.measurement.outcome is Outcome.OWN_ERROR), None)
    if own is not None:
        return UserInputError(f"every configuration failed ({ended}): {own.message}; correct it there")
    return DeviceError(f"every configuration failed ({ended}); see the worker's log in {root}")
