"""This computer as a place to measure: its GPUs, or its processor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from ..machine.devices import device_total_bytes, device_uuids, resolve_device
from ..machine.gpus import select_gpus
from ..machine.nvml import Card, open_nvml
from ..measuring.executor import Executor
from ..measuring.gauge import Gauge, card_gauge, worker_gauge
from ..measuring.pool import LocalExecutor
from ..measuring.reserve import OtherUse, see_other_use
from ..measuring.worker_measurer import WorkerMeasurer
from ..predict.tracers import LocalTracers, Tracers
from ..study.definition import StudyDefinition
from ..values.measurement import DeviceKind
from .place import CardName, Devices, Job

_LEFT_TO_MEASURING = 2
"""Cores that are left to the driver and the worker: steps that wait for the host are timed meanwhile."""


def processes_ahead() -> int:
    """How many processes of a kind may work beside a worker here: of two kinds, as lines are predicted and
    kernels compiled."""
    return max(((os.cpu_count() or 1) - _LEFT_TO_MEASURING) // 2, 1)


class Here:
    """The GPUs that `--gpus` names, or what `--device` says.

    Raises: UserInputError for GPUs that are not there, and a device that cannot be used.
    """

    def __init__(self, gpus: str | None, device: Literal["auto", "cuda", "cpu"]) -> None:
        self._gpus = () if gpus is None else select_gpus(gpus)
        self.kind: DeviceKind = resolve_device(device, self._gpus)

    @contextmanager
    def opened(
        self, definition: StudyDefinition, *, begun_on: str | None, tell: Callable[[str], None]
    ) -> Iterator[Devices]:
        """Whatever was asked for serves; a run that was begun on another refuses it."""
        yield Cards(self._gpus) if self.kind == "cuda" else Processor()


class Cards:
    """GPUs by their UUIDs; none: the first visible."""

    kind: Literal["cuda", "cpu"] = "cuda"
    owner = "this GPU has"

    def __init__(self, gpus: tuple[str, ...]) -> None:
        self._gpus, self._uuids = gpus, device_uuids(gpus)

    @property
    def total_bytes(self) -> int:
        return device_total_bytes("cuda", self._gpus)

    def describe(self) -> str:
        return f"cuda ({len(self._gpus)} GPUs)" if len(self._gpus) > 1 else "cuda"

    def card(self) -> CardName | None:
        first = next((card for card in self._found() if card is not None), None)
        title = None if first is None else first.name()
        if first is None or title is None:
            return None
        memory = first.memory()
        return CardName(title=title, total_bytes=None if memory is None else memory.total_bytes)

    def other_uses(self) -> Sequence[OtherUse | None]:
        return [see_other_use(card) for card in self._found()]

    def tracers(self) -> Tracers:
        return LocalTracers(processes_ahead())

    @contextmanager
    def executor(self, job: Job, tell: Callable[[str], None]) -> Iterator[Executor]:
        """Each GPU has a log of its own; one that none was named beside is called by its kind."""
        measurers = {
            uuid or "cuda": _measurer(
                "cuda", job, f"worker-{uuid}.log" if len(self._gpus) > 1 else "worker.log", uuid
            )
            for uuid in self._gpus or (None,)
        }
        with LocalExecutor(measurers, on_loss=tell) as executor:
            yield executor

    def gauges(self) -> Mapping[str, Gauge]:
        names = self._gpus or ("cuda",)
        found = zip(names, self._found(), strict=False)
        return {name: card_gauge(card) for name, card in found if card is not None}

    def _found(self) -> list[Card | None]:
        nvml = open_nvml().nvml
        return [] if nvml is None else [nvml.find(uuid) for uuid in self._uuids]


class Processor:
    """The CPU as one device."""

    kind: Literal["cuda", "cpu"] = "cpu"
    owner = "this computer's memory holds"

    def __init__(self) -> None:
        self._measurer: WorkerMeasurer | None = None

    @property
    def total_bytes(self) -> int:
        return device_total_bytes("cpu")

    def describe(self) -> str:
        return "cpu"

    def card(self) -> CardName | None:
        return None

    def other_uses(self) -> Sequence[OtherUse | None]:
        return ()

    def tracers(self) -> Tracers:
        return LocalTracers(1)

    @contextmanager
    def executor(self, job: Job, tell: Callable[[str], None]) -> Iterator[Executor]:
        self._measurer = _measurer("cpu", job, "worker.log", None)
        with LocalExecutor({"cpu": self._measurer}, on_loss=tell) as executor:
            yield executor

    def gauges(self) -> Mapping[str, Gauge]:
        return {} if self._measurer is None else {"cpu": worker_gauge(self._measurer.worker_pid)}


def _measurer(kind: Literal["cuda", "cpu"], job: Job, log_name: str, uuid: str | None) -> WorkerMeasurer:
    return WorkerMeasurer(
        device=kind,
        budget_bytes=job.budget_bytes,
        reserve_bytes=job.reserve_bytes,
        log_dir=job.root,
        log_name=log_name,
        timing=job.timing,
        gpu_uuid=uuid,
        earlier=job.earlier,
        outside_bytes=job.outside_bytes,
    )
