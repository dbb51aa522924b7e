"""A search from beginning to end: the device, the run directory, what is written and what is printed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

from ..machine.devices import device_total_bytes, device_uuids, resolve_device
from ..machine.gpus import select_gpus
from ..measuring.pool import LocalExecutor
from ..measuring.worker_measurer import WorkerMeasurer
from ..predict.rate.calibration import present_profile
from ..predict.rate.profiles import chosen_profile
from ..records.journal import read_records
from ..records.results import Results
from ..records.run_directory import RunPaths, check_run_directory
from ..records.samplers import check_sampler
from ..report.answers import render_end
from ..report.early import EarlyOutputs, Expected
from ..report.facts import RunFacts
from ..report.outputs import write_outputs
from ..report.progress_bar import ProgressDisplay
from ..report.terminal import render_outcomes
from ..search.foresight import Foresight
from ..search.progress import SearchEvent, StopReason
from ..search.search import run_search
from ..search.skips import count_skips
from ..values.errors import (
    DeviceError,
    InterruptedStudyError,
    NothingFitsError,
    Phase8TuneError,
    UserInputError,
)
from ..values.interrupt import interrupt_deferred
from ..values.record import Record
from ..values.sizes import format_budget
from ..values.terminal import fill, terminal_width
from ..values.timing import Timing
from .ahead import Ahead, working_ahead
from .planned_run import plan
from .request import RunRequest, read_study, run_root, settle_budget, settle_reserve, tell

_DEFAULT_STUDIES = {"cuda": "default", "cpu": "cpu"}
_OWNERS = {"cuda": "this GPU has", "cpu": "this computer's memory holds"}


def execute(request: RunRequest) -> list[Path]:
    """Search, or go on with a search, then write and print what was found; without a GPU, plan for one.

    Returns the recommended files that were measured, none of a plan.

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
        plan(request, asked)
        return []
    chosen = None if request.study is None else read_study(request.study, request)
    gpus = () if request.gpus is None else select_gpus(request.gpus)
    kind = resolve_device(request.device, gpus)
    if kind == "predicted":
        plan(request, present_profile())
        return []
    definition, text = chosen or read_study(_DEFAULT_STUDIES[kind], request)
    check_sampler(definition.search.sampler)
    budget_bytes = settle_budget(request, device_total_bytes(kind, gpus), _OWNERS[kind])
    root = run_root(request, definition, kind)
    check_run_directory(root, definition, budget_bytes)
    timing = definition.timing
    if request.timeout_s is not None:
        timing = timing.model_copy(update={"timeout_s": request.timeout_s})
    device = f"{kind} ({len(gpus)} GPUs)" if len(gpus) > 1 else kind
    tell(f"study {definition.name}, budget {format_budget(budget_bytes)}, device: {device}, run {root}")
    if definition.missing_versions:
        tell(f"not in this installation, left out: kernels {', '.join(definition.missing_versions)}")
    earlier = read_records(RunPaths(root=root).journal)
    uuids = device_uuids(gpus) if kind == "cuda" else ()
    reserve_bytes = settle_reserve(request, budget_bytes, uuids, earlier if uuids else ())
    problem: Phase8TuneError | None = None
    reason: StopReason | None = None
    facts: RunFacts | None = None
    ahead: Ahead | None = None
    expected: Expected | None = None
    try:
        with (
            ProgressDisplay(sys.stderr) as progress,
            working_ahead(
                definition, kind, gpus, budget_bytes=budget_bytes, reserve_bytes=reserve_bytes, root=root
            ) as ahead,
            LocalExecutor(
                _make_measurers(
                    kind,
                    gpus,
                    budget_bytes=budget_bytes,
                    reserve_bytes=reserve_bytes,
                    root=root,
                    timing=timing,
                    earlier=earlier,
                    outside_bytes=0 if ahead is None else ahead.profile.outside_bytes,
                ),
                on_loss=lambda text: progress.tell(f"phase8-tune: {text}"),
            ) as pool,
        ):
            facts = RunFacts(
                run_root=root,
                study_name=definition.name,
                workloads=definition.workloads,
                budget_bytes=budget_bytes,
                reserve_bytes=reserve_bytes,
                device=pool.device,
                versions=pool.versions,
                timing=timing,
                command=request.command,
                missing_versions=definition.missing_versions,
            )
            if ahead is not None:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                expected = Expected(ahead.profile, budget_bytes, now)
            foresight = None if ahead is None else ahead.foresight
            early = EarlyOutputs(facts, earlier, expected, progress.tell)
            reason = run_search(
                definition,
                pool,
                root,
                budget_bytes=budget_bytes,
                on_event=_Follower(progress, early, foresight),
                definition_text=text,
                foresight=foresight,
                preparation=None if ahead is None else ahead.compiler,
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
                recommended = write_outputs(results, facts, points)
        except UserInputError as error:
            raise problem or error from None
        problem = problem or _judge(results, reason, root)
        _print_results(results, facts, recommended, reason, sys.stdout)
    if problem is not None:
        raise problem
    return recommended


def _make_measurers(
    kind: Literal["cuda", "cpu"],
    gpus: tuple[str, ...],
    *,
    budget_bytes: int,
    reserve_bytes: int,
    root: Path,
    timing: Timing,
    earlier: Sequence[Record],
    outside_bytes: int,
) -> dict[str, WorkerMeasurer]:
    """One for each GPU by its UUID, each with a log of its own; one for the device without any named."""
    return {
        uuid or kind: WorkerMeasurer(
            device=kind,
            budget_bytes=budget_bytes,
            reserve_bytes=reserve_bytes,
            log_dir=root,
            log_name=f"worker-{uuid}.log" if len(gpus) > 1 else "worker.log",
            timing=timing,
            gpu_uuid=uuid,
            earlier=earlier,
            outside_bytes=outside_bytes,
        )
        for uuid in gpus or (None,)
    }


class _Follower:
    """What a search's events lead to: they are shown, and the run's files kept up to date."""

    def __init__(self, progress: ProgressDisplay, early: EarlyOutputs, foresight: Foresight | None) -> None:
        self._progress, self._early, self._foresight = progress, early, foresight
        self._seen = 0

    def __call__(self, event: SearchEvent) -> None:
        self._progress(event)
        known = () if self._foresight is None else self._foresight.known
        self._early(event.last, known[self._seen :])
        self._seen = len(known)


def _print_results(
    results: Results,
    facts: RunFacts,
    recommended: Sequence[Path],
    reason: StopReason | None,
    stream: TextIO,
) -> None:
    ended = "it failed; what was measured is kept" if reason is None else reason.sentence
    width = terminal_width(stream)
    print(fill(f"\nSearch ended: {ended}.\n{render_outcomes(results.settled)}", width), file=stream)
    print(render_end(results, facts.run_root, recommended, width=width), end="", file=stream, flush=True)


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
    return DeviceError(f"every configuration failed ({ended}); see the worker's log in {root}")
