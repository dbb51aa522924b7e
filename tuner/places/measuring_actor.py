"""What runs on a node, one process a GPU: the same measurer as on one computer, asked over the cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..machine.cache_folder import writable_cache_folder
from ..measuring.worker_measurer import WorkerMeasurer
from ..values.atomic_write import write_atomically
from ..values.candidate import Candidate
from ..values.errors import DeviceError
from ..values.measurement import DeviceInfo, Measurement, Versions
from ..values.record import Record
from ..values.timing import Timing
from ..workloads.spec import SPECS_FILE, note_kept_specs
from .nodes import Sight

_LOG, _SENT = "worker.log", "worker.log.sent"
_MAX_LOG_BYTES = 1 << 20
"""Of a worker's log that comes with one answer: its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What every actor of a study is told. run: its name. checked: the records that hold a kernel check.

    folder: the driver's own, so that a workload's file is found by the same path. specs: what is known of the
    user's own workloads, as in a run's folder.
    """

    run: str
    budget_bytes: int
    reserve_bytes: int
    timing: Timing
    outside_bytes: int
    checked: tuple[Record, ...]
    folder: str
    specs: str | None
    sight: Sight


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What an actor found: what it measures on, and a measurement where one was asked for.

    failure: why it can measure nothing. log: what the worker wrote since the last answer.
    """

    gpu: str
    device: DeviceInfo | None = None
    versions: Versions | None = None
    measurement: Measurement | None = None
    failure: str | None = None
    log: bytes = b""


class MeasuringActor:
    """Measures on the GPU that the cluster gave its process.

    Called by Ray in one thread from first to last: a worker ends with the thread that started it.
    """

    def __init__(self, order: Order, numbers: Sequence[str]) -> None:
        """numbers: of the GPU, as the cluster has them."""
        self._order, self._numbers = order, numbers
        self._gpu, self._logs = "GPU", Path()
        self._measurer: WorkerMeasurer | None = None

    def begin(self) -> Answer:
        """Start the worker."""
        return self._answer(lambda measurer: None)

    def measure(self, candidate: dict[str, Any]) -> Answer:
        """Measure a candidate; what it raises otherwise is a bug, and is raised in the driver."""
        return self._answer(lambda measurer: measurer.measure(Candidate.from_dict(candidate)))

    def _answer(self, ask: Callable[[WorkerMeasurer], Measurement | None]) -> Answer:
        try:
            measurer = self._measurer or self._make()
            measurement = ask(measurer)
            device, versions = measurer.device, measurer.versions
        except DeviceError as error:
            return Answer(gpu=self._gpu, failure=str(error), log=self._new_log())
        return Answer(
            gpu=self._gpu,
            device=device,
            versions=versions,
            measurement=measurement,
            log=self._new_log(),
        )

    def _make(self) -> WorkerMeasurer:
        order = self._order
        if Path(order.folder).is_dir():
            os.chdir(order.folder)
        self._gpu = order.sight.gpu(self._numbers)
        # Of this run and GPU: what an actor that was lost had not sent yet, the next one sends.
        self._logs = writable_cache_folder("cluster") / order.run / self._gpu
        self._measurer = WorkerMeasurer(
            device="cuda",
            budget_bytes=order.budget_bytes,
            reserve_bytes=order.reserve_bytes,
            log_dir=self._logs,
            log_name=_LOG,
            timing=order.timing,
            gpu_uuid=self._gpu,
            command=order.sight.worker_command,
            earlier=order.checked,
            outside_bytes=order.outside_bytes,
        )
        if order.specs is not None:
            write_atomically(self._logs / SPECS_FILE, order.specs)
            note_kept_specs(self._logs)
        return self._measurer

    def _new_log(self) -> bytes:
        log, sent = self._logs / _LOG, self._logs / _SENT
        if self._measurer is None:
            return b""
        size = log.stat().st_size
        already = int(sent.read_text(encoding="ascii")) if sent.exists() else 0
        if size <= already:
            return b""
        with log.open("rb") as file:
            file.seek(max(already, size - _MAX_LOG_BYTES))
            text = file.read(size - file.tell())
        write_atomically(sent, f"{size}\n")
        return text
