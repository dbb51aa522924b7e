"""A stand-in for the pynvml module: cards whose figures a test sets, and every refusal NVML knows."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

MIB = 1 << 20
VISITOR = 4242  # the process that comes and goes


class NVMLError(Exception):
    """As in pynvml: all errors of the library are kinds of it."""


@dataclass
class FakeNvml:
    """`refused` names functions that raise `refusal`, `absent` those that answer None.

    `dies_after`: so many looks at the memory, then the library answers nothing more. `visitor`: from which
    look on another process holds how many bytes of the card, and until which.
    """

    uuid: str = "GPU-fake"
    name: str = "fake card"
    total: int = 16 << 30
    used: int = 1000 * MIB
    reserved: int = 0  # of the used, the driver's own
    display: int = 0
    processes: dict[int, int | None] = field(default_factory=dict)
    graphics: dict[int, int | None] = field(default_factory=dict)
    reasons: int = 0
    energy_mj: int = 0
    grows_by: int = 0
    growth_due: bool = False
    is_first_seen: bool = False
    refused: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    refusal: str = "Not Supported"
    dies_after: int | None = None
    visitor: tuple[int, int, int] | None = None
    calls: int = 0
    called: threading.Condition = field(default_factory=threading.Condition)

    NVMLError = NVMLError
    nvmlMemory_v2 = 2

    def answer(self, name: str, value: Any) -> Any:
        if name in self.refused or (self.dies_after is not None and self.calls > self.dies_after):
            raise NVMLError(f"{name}: {self.refusal}")
        return None if name in self.absent else value

    def grow_once(self) -> None:
        """After the next look at its memory, the card has `grows_by` more in use."""
        self.growth_due, self.is_first_seen = True, False

    def wait_for_calls(self, count: int) -> bool:
        """Whether memory was asked for that many times more, within a generous time."""
        with self.called:
            goal = self.calls + count
            return self.called.wait_for(lambda: self.calls >= goal, timeout=60)

    def nvmlInit(self) -> None:
        self.answer("nvmlInit", None)

    def nvmlSystemGetDriverVersion(self) -> Any:
        return self.answer("nvmlSystemGetDriverVersion", "570.1")

    def nvmlDeviceGetCount(self) -> Any:
        return self.answer("nvmlDeviceGetCount", 1)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return self.answer("nvmlDeviceGetHandleByIndex", index)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        if uuid != self.uuid:
            raise NVMLError("Not Found")
        return self.answer("nvmlDeviceGetHandleByUUID", 0)

    def nvmlDeviceGetUUID(self, handle: int) -> Any:
        return self.answer("nvmlDeviceGetUUID", self.uuid.encode())

    def nvmlDeviceGetName(self, handle: int) -> Any:
        return self.answer("nvmlDeviceGetName", self.name)

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int | None = None) -> Any:
        if version is not None:  # as in pynvml: its used bytes are without the driver's own
            told = SimpleNamespace(total=self.total, used=self.used - self.reserved, reserved=self.reserved)
            return self.answer("nvmlDeviceGetMemoryInfo_v2", told)
        with self.called:
            self.calls += 1
            self.called.notify_all()
            if self.growth_due and self.is_first_seen:
                self.used += self.grows_by
                self.growth_due = False
            self.is_first_seen = True
            if self.visitor is not None:
                size, comes, goes = self.visitor
                if self.calls == comes:
                    self.used, self.processes[VISITOR] = self.used + size, size
                elif self.calls == goes:
                    self.used -= size
                    del self.processes[VISITOR]
        info = SimpleNamespace(total=self.total, used=self.used)
        return self.answer("nvmlDeviceGetMemoryInfo", info)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> Any:
        listed = [SimpleNamespace(pid=p, usedGpuMemory=used) for p, used in self.processes.items()]
        return self.answer("nvmlDeviceGetComputeRunningProcesses", listed)

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> Any:
        listed = [SimpleNamespace(pid=p, usedGpuMemory=used) for p, used in self.graphics.items()]
        return self.answer("nvmlDeviceGetGraphicsRunningProcesses", listed)

    def nvmlDeviceGetDisplayActive(self, handle: int) -> Any:
        return self.answer("nvmlDeviceGetDisplayActive", self.display)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> Any:
        return self.answer("nvmlDeviceGetTotalEnergyConsumption", self.energy_mj)

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> Any:
        return self.answer("nvmlDeviceGetClockInfo", 1500)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> Any:
        return self.answer("nvmlDeviceGetTemperature", 60)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> Any:
        return self.answer("nvmlDeviceGetCurrentClocksEventReasons", self.reasons)


@dataclass
class FakeMachine:
    """Several cards in one computer; a card's handle is the card."""

    cards: list[FakeNvml]

    NVMLError = NVMLError

    def nvmlInit(self) -> None:
        """Never refused: what a card refuses is told by the card."""

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeNvml:
        self.cards[index].nvmlDeviceGetHandleByIndex(index)  # which may refuse
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeNvml:
        for card in self.cards:
            if card.uuid == uuid:
                return card
        raise NVMLError("Not Found")

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDevice"):
            raise AttributeError(name)
        return lambda card, *arguments, **named: getattr(card, name)(0, *arguments, **named)
