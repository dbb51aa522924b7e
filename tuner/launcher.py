"""Measures candidates in a worker process: keeps it, times it out, kills and replaces it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from .accounting import read_status_bytes
from .candidate import Candidate
from .devices import device_total_bytes, resolve_device
from .errors import DeviceError, UserInputError
from .live_worker import LiveWorker, TrialFailedError
from .measurement import DeviceInfo, LedgerLine, Measurement, Telemetry, Versions
from .measurer import StoppedError, TimingSettings
from .memory import Settlement, host_limit_bytes, settle_cuda, settle_host
from .monitor import TrialMonitor
from .nvml import Card, open_nvml
from .outcome import Outcome
from .protocol import CudaMemory, HostMemory, MeasureRequest, Ready, Result

__all__ = ["WorkerMeasurer", "device_total_bytes", "resolve_device"]

START_ATTEMPTS = 3
WORKER_COMMAND = (sys.executable, "-m", "phase8_tune.tuner.worker")


class WorkerMeasurer:
    """A `Measurer` with one worker process on one device; also a context manager.

    The worker is kept from one candidate to the next and replaced after any failure. `budget_bytes` covers
    all that it takes of the device, `reserve_bytes` of it are left to other programs. The worker's standard
    error is appended to `log_dir/log_name`. A worker ends with the thread that started it (on Linux), so one
    thread uses a measurer; only `stop` may be called from others.

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
        timing: TimingSettings,
        gpu_uuid: str | None = None,
        command: Sequence[str] | None = None,
        seed: int = 0,
        start_timeout_s: float = 300.0,
        nvml_library: Any = None,
    ) -> None:
        self._kind = device
        self._budget_bytes = budget_bytes
        self._reserve_bytes = reserve_bytes
        self._log_path = log_dir / log_name
        self._timing = timing
        self._gpu_uuid = gpu_uuid
        self._command = tuple(command or WORKER_COMMAND)
        self._seed = seed
        self._start_timeout_s = start_timeout_s
        self._nvml = open_nvml(nvml_library).nvml if device == "cuda" else None
        self._worker: LiveWorker | None = None
        self._last_ready: Ready | None = None
        self._next_id = 1
        self._stop = threading.Event()
        try:
            log_dir.mkdir(parents=True, exist_ok=True)
            self._log_path.open("ab").close()
        except OSError as error:
            raise UserInputError(
                f"run folder: expected {log_dir} to be writable, got {error.strerror}; choose another folder"
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

    def measure(self, candidate: Candidate) -> Measurement:
        """Measure one candidate; a tainted measurement is done again once.

        Raises: DeviceError where no worker could be started several times in a row; StoppedError.
        """
        measurement = self._measure_once(candidate)
        if measurement.tainted:
            measurement = self._measure_once(candidate)
        return measurement

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

    def _measure_once(self, candidate: Candidate) -> Measurement:
        started_s = time.monotonic()
        try:
            measurement = self._try(candidate)
        except TrialFailedError as error:
            self.close()
            measurement = error.measurement
        except BaseException:  # an interrupt, say: no worker is left in the middle of a trial
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

    def _try(self, candidate: Candidate) -> Measurement:
        worker = self._ready_worker()
        request = MeasureRequest(
            id=self._next_id,
            candidate=candidate.to_dict(),
            warmup=self._timing.warmup,
            iterations=self._timing.iterations,
            minimum=self._timing.minimum,
            seed=self._seed,
            budget_bytes=self._budget_bytes,
            reserve_bytes=self._reserve_bytes,
            held_bytes=worker.footprint_bytes,
        )
        self._next_id += 1
        with TrialMonitor(self._find_card(worker.ready), worker.process.pid) as monitor:
            result = worker.ask(
                request,
                timeout_s=self._timing.timeout_s,
                on_progress=lambda progress: monitor.enter_phase(progress.phase),
                on_silence=self._look_after,
            )
            measurement = self._settle(worker, result, monitor)
        if result.replace is not None or worker.is_outdated:
            self.close()
        return measurement

    def _ready_worker(self) -> LiveWorker:
        """The idle worker, a new one if there is none or it has died.

        A failed start says something about the device and nothing about a candidate: it is repeated at once.
        Raises: DeviceError where that fails several times in a row; StoppedError.
        """
        if self._worker is not None and not self._worker.process.is_idle():
            self.close()
        failure: TrialFailedError | None = None
        for _ in range(START_ATTEMPTS):
            self._obey_stop()
            try:
                self._worker = self._worker or self._start_worker()
            except TrialFailedError as error:
                failure = error
                continue
            self._last_ready = self._worker.ready
            return self._worker
        said = " ".join(str(failure).split())  # CUDA's errors come with lines of advice
        raise DeviceError(
            f"no worker could be started, {START_ATTEMPTS} times in a row ({said}); "
            f"see {self._log_path} and what `phase8-tune doctor` says"
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
            raise TrialFailedError(
                Outcome.OVER_BUDGET,
                f"stopped at {resident} bytes, far over the budget of {self._budget_bytes}",
                peak_bytes=resident,
                peak_source=source,
                ledger=(LedgerLine(name="process", size_bytes=resident, source=source),),
            )

    def _settle(self, worker: LiveWorker, result: Result, monitor: TrialMonitor) -> Measurement:
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
        return _complete(result.measurement, settlement, telemetry, monitor.slowdowns())


def _complete(
    measurement: Measurement,
    settlement: Settlement | None,
    telemetry: Telemetry | None,
    slowdowns: tuple[str, ...],
) -> Measurement:
    """The worker's measurement with what was seen from outside."""
    update: dict[str, Any] = {"telemetry": telemetry}
    tainted = measurement.tainted
    if slowdowns and measurement.samples_s:
        tainted += (f"throttled: {', '.join(slowdowns)}",)
    if settlement is not None:
        update |= {
            "peak_bytes": settlement.peak_bytes,
            "peak_source": settlement.source,
            "ledger": settlement.ledger,
        }
        tainted += settlement.tainted
        disturbed = settlement.outcome is Outcome.INTERFERENCE and measurement.outcome.is_memory
        if settlement.outcome is not None and (measurement.outcome is Outcome.OK or disturbed):
            update |= {"outcome": settlement.outcome, "message": settlement.message}
    return measurement.model_copy(update=update | {"tainted": tainted})
