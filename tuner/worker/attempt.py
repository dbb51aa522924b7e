"""One measurement inside the worker: build, warm up, time, and leave the device as it was."""

from __future__ import annotations

import gc
import math
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..measuring.failures import classify_chain, exception_chain
from ..measuring.protocol import MeasureRequest, Progress, Result
from ..values.candidate import Candidate
from ..values.measurement import Measurement
from ..values.outcome import Outcome
from ..workloads import PositionedRun, PreparedRun, load_workload
from ..workloads.factory import WorkloadError
from ..workloads.loading import place_in_own_code
from .accounting import Account
from .sample_statistics import is_precise

Say = Callable[[Progress], None]
MESSAGE_CHARACTERS = 500


@dataclass(kw_only=True, slots=True)
class _Findings:
    """What is known so far; a failure half-way keeps what was found before it."""

    parameters: int | None = None
    body_parameters: int | None = None
    setup_s: float | None = None
    samples_s: tuple[float, ...] = ()
    final_loss: float | None = None
    tainted: tuple[str, ...] = ()


def run_attempt(request: MeasureRequest, device: torch.device, account: Account, say: Say) -> Result:
    """Measure the request's candidate once; a failure of the candidate is the result's outcome."""
    started = time.perf_counter()
    found = _Findings()
    outcome, message, replace = Outcome.OK, "", None
    try:
        account.begin(request)
        _measure(request, device, account, say, found)
    # The border between a candidate's code and the worker: whatever comes out of it is data.
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        outcome, message, replace = explain(error)
        _drop_frames(error)
    else:
        if found.final_loss is None or not math.isfinite(found.final_loss):
            outcome, message = Outcome.ERROR, f"the loss became {found.final_loss} while it was timed"
            found.final_loss = None
    memory, stats = None, {}
    if replace is None or outcome is Outcome.OOM:  # else the device may no longer answer
        try:
            memory, stats = account.report(), account.memory_stats()
            replace = account.settle() or replace
        except RuntimeError as error:  # a CUDA error that only now surfaces
            traceback.print_exc(file=sys.stderr)
            later, said, why = explain(error)
            replace = why or f"it failed while it was tidied up ({later})"
            if outcome is not Outcome.OOM:  # which came first, and may have left a broken capture behind
                outcome, message = later, said
    measurement = Measurement(
        outcome=outcome,
        message=message,
        parameters=found.parameters,
        body_parameters=found.body_parameters,
        samples_s=found.samples_s,
        setup_s=found.setup_s,
        wall_s=time.perf_counter() - started,
        memory_stats=stats,
        tainted=found.tainted,
        final_loss=found.final_loss,
    )
    return Result(id=request.id, measurement=measurement, memory=memory, replace=replace)


def _measure(
    request: MeasureRequest, device: torch.device, account: Account, say: Say, found: _Findings
) -> None:
    candidate = Candidate.from_dict(request.candidate)
    say(Progress(id=request.id, phase="setup"))
    torch.manual_seed(request.seed)
    started = time.perf_counter()
    run = load_workload(candidate.workload).prepare(candidate, device, request.seed)
    try:
        found.parameters = found.body_parameters = run.parameters
        if isinstance(run, PositionedRun):
            found.body_parameters = run.body_parameters
        for _ in range(run.setup_calls):
            run.run_once()  # compilation, autotuning and graph capture happen here, outside the timing
        _synchronize(device)
        found.setup_s = time.perf_counter() - started
        say(Progress(id=request.id, phase="warmup"))
        for _ in range(request.warmup):
            run.run_once()
            _synchronize(device)
            account.note_iteration()
        say(Progress(id=request.id, phase="timed"))
        retries = account.alloc_retries()
        _time(run, request, device, account, found)
        say(Progress(id=request.id, phase="finished"))
        if account.alloc_retries() > retries:
            found.tainted = (f"num_alloc_retries rose by {account.alloc_retries() - retries}",)
        run.finish()
        _synchronize(device)
        account.note_iteration()
    finally:
        run.close()


def _time(
    run: PreparedRun, request: MeasureRequest, device: torch.device, account: Account, found: _Findings
) -> None:
    loss = None
    for _ in range(request.iterations):
        sample_s, loss = (_time_cuda if device.type == "cuda" else _time_cpu)(run)
        found.samples_s += (sample_s,)
        account.note_iteration()
        if is_precise(found.samples_s):
            break
    if loss is not None:
        found.final_loss = float(loss)


def _time_cuda(run: PreparedRun) -> tuple[float, torch.Tensor]:
    """One iteration between two events, and one synchronisation after it, as in the seed."""
    begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    begin.record()
    loss = run.run_once()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3, loss


def _time_cpu(run: PreparedRun) -> tuple[float, torch.Tensor]:
    begin = time.perf_counter()
    loss = run.run_once()
    return time.perf_counter() - begin, loss


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def explain(error: BaseException) -> tuple[Outcome, str, str | None]:
    """Of an exception: outcome, message, and why the worker must be replaced (None: it may be kept)."""
    failure, decisive = classify_chain(exception_chain(error))
    first = next((line.strip() for line in str(decisive).splitlines() if line.strip()), "")
    place = place_in_own_code(error)
    where = "" if place is None else f" ({place})"
    message = f"{type(decisive).__name__}: {first}"[: MESSAGE_CHARACTERS - len(where)] + where
    outcome = failure.outcome
    is_own = place is not None or isinstance(decisive, WorkloadError)
    if outcome is Outcome.ERROR and is_own and not failure.in_doubt:
        outcome = Outcome.OWN_ERROR  # which a second attempt would raise again
    return outcome, message, None if failure.worker_usable else f"it failed ({outcome})"


def _drop_frames(error: BaseException) -> None:
    """The frames of a traceback hold the tensors that did not fit: let go of them."""
    for part in exception_chain(error):
        traceback.clear_frames(part.__traceback__)
        part.__traceback__ = None
    gc.collect()
