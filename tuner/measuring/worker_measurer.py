"""Measures candidates in a worker process: keeps it, times it out, kills and replaces it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from ..machine.installation import find_unreadable
from ..machine.nvml import Card, open_nvml
from ..machine.process_memory import read_status_bytes
from ..values.candidate import Candidate
from ..values.errors import DeviceError, UserInputError
from ..values.measurement import DeviceInfo, KernelCheck, LedgerLine, Measurement, Versions
from ..values.outcome import Outcome
from ..values.record import Record
from ..values.timing import Timing
from .completion import complete, with_check
from .kernel_verdicts import KeptChecks, Verdicts
from .measurer import StoppedError
from .memory import Settlement, host_limit_bytes, settle_cuda, settle_host
from .monitor import CardMonitor
from .protocol import CheckRequest, CudaMemory, HostMemory, MeasureRequest, Ready, Result
from .worker_session import AttemptFailedError, LiveWorker, unchecked

START_TRIES = 3
WORKER_COMMAND = (sys.executable, "-m", "phase8_tune.tuner.worker.main")


class WorkerMeasurer:
    """A `Measurer` with one worker process on one device; also a context manager.

    The worker is kept from one candidate to the next and replaced after any failure. `budget_bytes` covers
    all that it takes of the device, `reserve_bytes` of it are left to other programs. The worker's standard
    error is appended to `log_dir/log_name`. A worker ends with the thread that started it (on Linux), so one
    thread uses a measurer; only `stop` may be called from others.
    `outside_bytes` is what a process is known to take of the card in the end beside torch's allocator, where
    that is known: its libraries and modules are not all there yet when the allocator's cap is set.
    `earlier` are the study's records so far: a kernel version that passed its correctness check in one of
    them is not checked again.

    Raises: UserInputError where `log_dir` cannot be written.
    """

    def __init__(
        self,
        *,
        device: Literal["cuda", "cpu"],
        budget_bytes: int,
        reserve_bytes: int,
        log_dir: Path,
        log_name: str = "worker.log",
        timing: Timing,
        gpu_uuid: str | None = None,
        command: Sequence[str] | None = None,
        seed: int = 0,
        start_timeout_s: float = 300.0,
        nvml_library: Any = None,
        earlier: Sequence[Record] = (),
        outside_bytes: int = 0,
    ) -> None:
        self._kind, self._outside_bytes = device, outside_bytes
        self._budget_bytes, self._reserve_bytes = budget_bytes, reserve_bytes
        self._log_path = log_dir / log_name
        self._timing = timing
        self._gpu_uuid = gpu_uuid
        self._command = tuple(command or WORKER_COMMAND)
        self._seed = seed
        self._start_timeout_s = start_timeout_s
        self._nvml = open_nvml(nvml_library).nvml if device == "cuda" else None
        self._verdicts, self._kept_checks = Verdicts(earlier), KeptChecks()
        self._worker: LiveWorker | None = None
        self._last_ready: Ready | None = None
        self._next_id = 1
        self._stop = threading.Event()
        try:
            log_dir.mkdir(parents=True, exist_ok=True)
            self._log_path.open("ab").close()
        except OSError as error:
            raise UserInputError(
                f"{error.filename or log_dir}: expected a log that can be written, got: {error.strerror}; "
                "ask whoever owns it, or name another run with --run or --runs-dir"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def device(self) -> DeviceInfo:
        return self._identify().device

    @property
    def versions(self) -> Versions:
        return self._identify().versions

    def worker_pid(self) -> int | None:
        """Of the process that measures now, or waits to; may be asked from other threads."""
        return None if (worker := self._worker) is None else worker.process.pid

    def measure(self, candidate: Candidate) -> Measurement:
        """Measure one candidate; a tainted measurement is done again once.

        A version's first candidate on this GPU is measured only if the version computes the right thing.

        Raises: DeviceError where no worker could be started several times in a row; StoppedError.
        """
        check: KernelCheck | None = None

        def check_and_measure() -> Measurement:
            nonlocal check
            check = self._check(candidate)
            return self._try(candidate)

        measurement = self._guard(check_and_measure)
        if measurement.tainted:
            measurement = self._guard(lambda: self._try(candidate))
        return measurement if check is None else with_check(measurement, check)

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        if self._worker is not None:
            self._worker.process.kill()
            self._worker = None

    def _identify(self) -> Ready:
        if self._last_ready is None:
            self._last_ready = self._ready_worker().ready
        return self._last_ready

    def _guard(self, attempt: Callable[[], Measurement]) -> Measurement:
        """What the attempt measured, or its failure as data; a failure costs the worker."""
        started_s = time.monotonic()
        try:
            measurement = attempt()
        except AttemptFailedError as error:
            self.close()
            measurement = error.measurement
        except BaseException:  # an interrupt, say: no worker is left in the middle of an attempt
            self.close()
            raise
        known = self._identify()
        return measurement.model_copy(
            update={
                "wall_s": time.monotonic() - started_s,
                "device": known.device,
                "versions": known.versions,
            }
        )

    def _check(self, candidate: Candidate) -> KernelCheck | None:
        """Check the candidate's kernel version if it owes that; None where there was nothing to check.

        The worker that checked is not used to measure: what the check's kernels and libraries leave on the
        card would count in the candidate's peak.

        Raises: AttemptFailedError where the version is wrong, or the check did not come to an end.
        """
        worker = self._ready_worker()
        device = worker.ready.device
        if not self._verdicts.are_owed(candidate, device):
            return None
        kept = self._kept_checks.read(candidate, device, worker.ready.versions)
        if kept is not None:
            self._verdicts.note_check(device, candidate)
            return kept.model_copy(update={"seconds": 0.0})  # it took none of this measurement's
        request = CheckRequest(id=self._new_id(), candidate=candidate.to_dict())
        try:
            answer = worker.check(request, timeout_s=self._timing.timeout_s, on_silence=self._look_after)
        except AttemptFailedError as error:
            raise unchecked(candidate, error.measurement.outcome, error.measurement.message) from error
        if answer.check is None and answer.outcome is not Outcome.OK:
            raise unchecked(candidate, answer.outcome, answer.message)
        if answer.outcome is not Outcome.OK:
            raise AttemptFailedError(answer.outcome, answer.message, kernel_check=answer.check)
        self._verdicts.note_check(device, candidate)
        if answer.check is not None:
            self._kept_checks.write(answer.check, candidate, device, worker.ready.versions)
            self.close()
        return answer.check

    def _try(self, candidate: Candidate) -> Measurement:
        worker = self._ready_worker()
        request = MeasureRequest(
            id=self._new_id(),
            candidate=candidate.to_dict(),
            warmup=self._timing.warmup,
            iterations=self._timing.iterations,
            seed=self._seed,
            budget_bytes=self._budget_bytes,
            reserve_bytes=self._reserve_bytes,
            held_bytes=max(worker.footprint_bytes, self._outside_bytes),
        )
        with CardMonitor(self._find_card(worker.ready), worker.process.pid) as monitor:
            result = worker.measure(
                request,
                timeout_s=self._timing.timeout_s,
                on_progress=lambda progress: monitor.enter_phase(progress.phase),
                on_silence=self._look_after,
            )
            measurement = self._settle(worker, result, monitor)
        if result.replace is not None or worker.is_outdated:
            self.close()
        return measurement

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _ready_worker(self) -> LiveWorker:
        """The idle worker, a new one if there is none or it has died.

        A failed start says something about the device and nothing about a candidate: it is repeated at once.
        Raises: DeviceError where that fails several times in a row; StoppedError.
        """
        if self._worker is not None and not self._worker.process.is_idle():
            self.close()
        failure: AttemptFailedError | None = None
        for _ in range(START_TRIES):
            self._obey_stop()
            try:
                self._worker = self._worker or self._start_worker()
            except AttemptFailedError as error:
                failure = error
                continue
            self._last_ready = self._worker.ready
            return self._worker
        said = " ".join(str(failure).split())  # CUDA's errors come with lines of advice
        todo = find_unreadable() or f"see {self._log_path} and what `phase8-tune doctor` says"
        raise DeviceError(
            f"no worker could be started, {START_TRIES} times in a row ({said}); {todo}"
        ) from failure

    def _start_worker(self) -> LiveWorker:
        return LiveWorker(
            self._command,
            device=self._kind,
            gpu_uuid=self._gpu_uuid,
            log_path=self._log_path,
            start_timeout_s=self._start_timeout_s,
            on_silence=lambda pid: self._obey_stop(),
        )

    def _obey_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError

    def _find_card(self, ready: Ready) -> Card | None:
        if self._nvml is None or ready.device.uuid is None:
            return None
        return self._nvml.find(ready.device.uuid)

    def _look_after(self, pid: int) -> None:
        """What is done every moment while an answer is awaited."""
        self._obey_stop()
        self._guard_host_memory(pid)

    def _guard_host_memory(self, pid: int) -> None:
        if self._kind != "cpu":
            return
        resident = read_status_bytes(Path(f"/proc/{pid}/status"), "VmRSS")
        if resident is not None and resident > host_limit_bytes(self._budget_bytes):
            source = "VmRSS seen by the watchdog"
            raise AttemptFailedError(
                Outcome.OVER_BUDGET,
                f"stopped at {resident} bytes, far over the budget of {self._budget_bytes}",
                peak_bytes=resident,
                peak_source=source,
                ledger=(LedgerLine(name="process", size_bytes=resident, source=source),),
            )

    def _settle(self, worker: LiveWorker, result: Result, monitor: CardMonitor) -> Measurement:
        seen, telemetry = monitor.finish()
        settlement: Settlement | None = None
        if isinstance(result.memory, CudaMemory):
            settlement = settle_cuda(
                result.memory,
                seen,
                footprint_bytes=worker.footprint_bytes,
                budget_bytes=self._budget_bytes,
                reserve_bytes=self._reserve_bytes,
            )
            worker.note_residue(seen.residue_bytes())
        elif isinstance(result.memory, HostMemory):
            settlement = settle_host(
                result.memory, budget_bytes=self._budget_bytes, reserve_bytes=self._reserve_bytes
            )
        return complete(result.measurement, settlement, telemetry, monitor.slowdowns())
