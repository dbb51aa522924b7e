"""A run from beginning to end: the device, the run directory, the search, and what is written and printed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TextIO

from .definition import StudyDefinition, parse_definition, read_definition_text
from .devices import device_total_bytes, resolve_device
from .errors import DeviceError, InterruptedStudyError, NothingFitsError, Phase8TuneError, UserInputError
from .events import SearchLimits, SearchResult, StopReason
from .foresight import Forecasts, count_skips, forecast_all
from .frontier import find_frontier, settle, to_points
from .gpus import select_gpus
from .journal import read_records
from .launcher import WorkerMeasurer
from .measurement import DeviceInfo
from .measurer import TimingSettings
from .pool import MeasurerPool
from .recommend import recommend, write_atomically, write_recommendations
from .record import Record
from .report.facts import RunFacts
from .report.markdown import render_report
from .report.progress import ProgressDisplay
from .report.terminal import render_files, render_frontier, render_outcomes
from .report.trials_csv import render_csv
from .run_directory import RunPaths, check_run_directory
from .search import run_search
from .sizes import format_budget, format_mb, format_size

_DEFAULT_STUDIES = {"cuda": "default", "cpu": "cpu"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What the user asked for; None where the study or the device decides. `command` is the line typed."""

    vram_bytes: int
    command: str
    study: str | None = None
    device: Literal["auto", "cuda", "cpu"] = "auto"
    gpus: str | None = None
    run_name: str | None = None
    runs_dir: Path = Path("runs")
    trials: int | None = None
    time_limit_s: float | None = None
    timeout_s: float | None = None
    reserve_bytes: int = 0
    seed: int | None = None


def execute(request: RunRequest) -> None:
    """Search, or go on with a search, then write and print what was found.

    Raises: UserInputError, NothingFitsError, DeviceError, InterruptedStudyError; files are written before.
    """
    chosen = None if request.study is None else _read_study(request.study, request)
    gpus = () if request.gpus is None else select_gpus(request.gpus)
    kind = resolve_device(request.device, gpus)
    definition, text = chosen or _read_study(_DEFAULT_STUDIES[kind], request)
    budget_bytes = _settle_budget(request, kind, gpus)
    root = _run_root(request, definition, kind)
    check_run_directory(root, definition, budget_bytes)
    timing = definition.timing.to_settings()
    if request.timeout_s is not None:
        timing = replace(timing, timeout_s=request.timeout_s)
    device = f"{kind} ({len(gpus)} GPUs)" if len(gpus) > 1 else kind
    _tell(f"study {definition.name}, budget {format_budget(budget_bytes)}, device: {device}, run {root}")
    if definition.missing_versions:
        _tell(f"not in this installation, left out: kernels {', '.join(definition.missing_versions)}")
    measurers = _make_measurers(request, kind, gpus, budget_bytes=budget_bytes, root=root, timing=timing)
    with (
        ProgressDisplay(sys.stderr) as progress,
        MeasurerPool(measurers, on_loss=lambda text: progress.tell(f"phase8-tune: {text}")) as pool,
    ):
        forecasts = _look_ahead(definition, pool.device, budget_bytes, request.reserve_bytes)
        result = run_search(
            definition,
            pool,
            root,
            budget_bytes=budget_bytes,
            on_event=progress,
            limits=_limits(request, definition),
            definition_text=text,
            forecasts=forecasts,
        )
        facts = RunFacts(
            run_root=root,
            study_name=definition.name,
            budget_bytes=budget_bytes,
            reserve_bytes=request.reserve_bytes,
            device=pool.device,
            versions=pool.versions,
            timing=timing,
            command=request.command,
            missing_versions=definition.missing_versions,
            skips=None if forecasts is None else count_skips(settle(result.records), forecasts),
        )
    recommended = write_outputs(read_records(RunPaths(root=root).journal), facts)
    _print_results(result, facts, recommended, sys.stdout)
    problem = _judge(result, root)
    if problem is not None:
        raise problem


def _make_measurers(
    request: RunRequest,
    kind: Literal["cuda", "cpu"],
    gpus: tuple[str, ...],
    *,
    budget_bytes: int,
    root: Path,
    timing: TimingSettings,
) -> dict[str, WorkerMeasurer]:
    """One for each GPU by its UUID, each with a log of its own; one for the device without any named."""
    earlier = read_records(RunPaths(root=root).journal)
    return {
        uuid or kind: WorkerMeasurer(
            device=kind,
            budget_bytes=budget_bytes,
            reserve_bytes=request.reserve_bytes,
            log_dir=root,
            log_name=f"worker-{uuid}.log" if len(gpus) > 1 else "worker.log",
            timing=timing,
            gpu_uuid=uuid,
            earlier=earlier,
        )
        for uuid in gpus or (None,)
    }


def _look_ahead(
    definition: StudyDefinition, device: DeviceInfo, budget_bytes: int, reserve_bytes: int
) -> Forecasts | None:
    """Forecasts for a GPU whose figures are known, told to the user; None for other devices."""
    if device.kind != "cuda":
        return None
    _tell("predicting what fits; the first time this takes up to two minutes")
    forecasts = forecast_all(definition, device, budget_bytes, reserve_bytes)
    if forecasts is None:
        _tell(
            f"no figures of {device.name}, so nothing is predicted; `phase8-tune predict --calibrate` "
            "measures them for the next run"
        )
        return None
    over = sum(forecast.is_certainly_over for forecast in forecasts.values())
    _tell(f"{over} of {len(forecasts)} configurations are predicted not to fit, and are not launched")
    return forecasts


def write_outputs(records: Sequence[Record], facts: RunFacts) -> list[Path]:
    """Write recommended/*.yaml, report.md and trials.csv of a run; the paths of the recommendations.

    Raises: UserInputError where the run directory cannot be written.
    """
    recommended = write_recommendations(recommend(records), facts.run_root / "recommended")
    for name, text in (("report.md", render_report(records, facts)), ("trials.csv", render_csv(records))):
        path = facts.run_root / name
        try:
            write_atomically(path, text)
        except OSError as error:
            raise UserInputError(
                f"{path}: cannot be written: {error.strerror}; mend that, and run the same command again"
            ) from error
    return recommended


def _read_study(name_or_path: str, request: RunRequest) -> tuple[StudyDefinition, str]:
    text, source = read_definition_text(name_or_path)
    definition = parse_definition(text, source)
    if request.seed is not None:
        search = definition.search.model_copy(update={"seed": request.seed})
        definition = definition.model_copy(update={"search": search})
    return definition, text


def _settle_budget(request: RunRequest, kind: Literal["cuda", "cpu"], gpus: tuple[str, ...]) -> int:
    """The budget asked for, or the device's size where that is smaller."""
    total_bytes = device_total_bytes(kind, gpus)
    budget_bytes = request.vram_bytes
    if budget_bytes > total_bytes:
        owner = "this GPU has" if kind == "cuda" else "this computer's memory holds"
        _tell(
            f"warning: --vram {format_budget(budget_bytes)} is more than {owner}; "
            f"its {format_mb(total_bytes)} MB are the budget"
        )
        budget_bytes = total_bytes
    if request.reserve_bytes >= budget_bytes:
        raise UserInputError(
            f"--reserve: expected less than the budget of {format_budget(budget_bytes)}, "
            f"got {format_budget(request.reserve_bytes)}"
        )
    return budget_bytes


def _run_root(request: RunRequest, definition: StudyDefinition, kind: str) -> Path:
    """The run's folder. The default name is the same each time, so that the same command goes on."""
    name = request.run_name
    if name is None:
        return request.runs_dir / f"{definition.name}-{format_size(request.vram_bytes)}-{kind}"
    if not name.strip() or name in (".", "..") or any(c in name for c in "/\\\0"):
        raise UserInputError(f"--run: expected a plain folder name such as my-laptop, got {name!r}")
    return request.runs_dir / name


def _limits(request: RunRequest, definition: StudyDefinition) -> SearchLimits:
    limits = SearchLimits.from_settings(definition.search)
    if request.trials is not None:
        limits = replace(limits, trials=request.trials)
    if request.time_limit_s is not None:
        limits = replace(limits, time_limit_s=request.time_limit_s)
    return limits


def _print_results(
    result: SearchResult, facts: RunFacts, recommended: Sequence[Path], stream: TextIO
) -> None:
    front = find_frontier(to_points(result.records))
    print(f"\nSearch ended: {result.stop_reason.sentence}.", file=stream)
    print(f"{render_outcomes(result.records)}", file=stream)
    if front:
        print(render_frontier(front), file=stream)
    print(render_files(facts.run_root, recommended), end="", file=stream, flush=True)


def _judge(result: SearchResult, root: Path) -> Phase8TuneError | None:
    """The error that a run without a usable end is, None for a good one."""
    records = settle(result.records)
    if result.stop_reason is StopReason.INTERRUPTED:
        return InterruptedStudyError(
            f"interrupted; {len(records)} measured configurations are kept in {root}: "
            "run the same command to go on"
        )
    if to_points(records):
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


def _tell(text: str) -> None:
    print(f"phase8-tune: {text}", file=sys.stderr, flush=True)
