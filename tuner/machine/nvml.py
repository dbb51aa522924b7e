"""NVIDIA's management library, the only place that imports it: every figure a value or None, never a guess.

Under Windows and WSL per-process memory is always None and that is normal; in containers the pids may be the
host's; laptops lack the energy counter. A figure that is absent is None; a library that dies is None for all.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

# Bits of nvmlDeviceGetCurrentClocksEventReasons, NVML API reference, "NvmlClocksEventReasons".
_CLOCK_REASONS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
# Those that slow a card below what it does on another day; a power cap is how cards run under load.
SLOWDOWNS = frozenset(
    {"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CardMemory:
    """A card's memory, all processes together, in bytes."""

    total_bytes: int
    used_bytes: int


class Card:
    """One GPU as NVML sees it."""

    def __init__(self, library: Any, handle: Any, uuid: str) -> None:
        self._library = library
        self._handle = handle
        self.uuid = uuid

    def memory(self) -> CardMemory | None:
        info = self._ask(lambda: self._library.nvmlDeviceGetMemoryInfo(self._handle))
        if info is None or not info.total:
            return None
        return CardMemory(total_bytes=int(info.total), used_bytes=int(info.used))

    def driver_bytes(self) -> int | None:
        """What of the used memory the driver keeps for itself, which no program can have or give back."""
        version = getattr(self._library, "nvmlMemory_v2", None)  # the first that tells it apart
        if version is None:
            return None
        info = self._ask(lambda: self._library.nvmlDeviceGetMemoryInfo(self._handle, version=version))
        return None if info is None else int(info.reserved)

    def drives_display(self) -> bool | None:
        """Whether a screen has memory of the card, be a monitor plugged in or not.

        Not the "display mode", which servers' cards without any screen have enabled too.
        """
        active = _whole(self._ask(lambda: self._library.nvmlDeviceGetDisplayActive(self._handle)))
        return None if active is None else bool(active)

    def processes(self) -> Mapping[int, int | None] | None:
        """Bytes that each process with a CUDA context holds; None where NVML does not tell."""
        return _held(self._ask(lambda: self._library.nvmlDeviceGetComputeRunningProcesses(self._handle)))

    def graphics_processes(self) -> Mapping[int, int | None] | None:
        """Bytes that each process drawing with the card holds; None where NVML does not tell."""
        return _held(self._ask(lambda: self._library.nvmlDeviceGetGraphicsRunningProcesses(self._handle)))

    def name(self) -> str | None:
        return _text(self._ask(lambda: self._library.nvmlDeviceGetName(self._handle)))

    def energy_j(self) -> float | None:
        """Energy since the driver was loaded (Volta and later)."""
        millijoules = self._ask(lambda: self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        return None if millijoules is None else millijoules / 1e3

    def sm_clock_mhz(self) -> int | None:
        kind = getattr(self._library, "NVML_CLOCK_SM", 1)
        return _whole(self._ask(lambda: self._library.nvmlDeviceGetClockInfo(self._handle, kind)))

    def temperature_c(self) -> int | None:
        sensor = getattr(self._library, "NVML_TEMPERATURE_GPU", 0)
        return _whole(self._ask(lambda: self._library.nvmlDeviceGetTemperature(self._handle, sensor)))

    def throttle_reasons(self) -> tuple[str, ...] | None:
        """Why the clocks are not at their highest, by the names of NVML's reference, in its order."""
        name = "nvmlDeviceGetCurrentClocksEventReasons"
        if not hasattr(self._library, name):  # its name before driver 535
            name = "nvmlDeviceGetCurrentClocksThrottleReasons"
        bits = _whole(self._ask(lambda: getattr(self._library, name)(self._handle)))
        if bits is None:
            return None
        return tuple(reason for bit, reason in _CLOCK_REASONS.items() if bits & bit)

    def _ask(self, question: Callable[[], T]) -> T | None:
        return _answer(self._library, question)


class Nvml:
    """The library, initialised."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def find(self, uuid: str) -> Card | None:
        """The card of that UUID: its number would not do, CUDA_VISIBLE_DEVICES renumbers."""
        handle = self._ask(functools.partial(self._library.nvmlDeviceGetHandleByUUID, uuid))
        return None if handle is None else Card(self._library, handle, uuid)

    def cards(self) -> tuple[Card, ...]:
        """All cards of the machine, hidden from CUDA or not."""
        return tuple(self.numbered_cards().values())

    def numbered_cards(self) -> Mapping[int, Card]:
        """The same by their numbers, which are those of `nvidia-smi -L`; one that is lost leaves a gap."""
        count = self._ask(self._library.nvmlDeviceGetCount)
        cards = {}
        for index in range(count or 0):
            handle = self._ask(functools.partial(self._library.nvmlDeviceGetHandleByIndex, index))
            if handle is None:
                continue
            uuid = _text(self._ask(functools.partial(self._library.nvmlDeviceGetUUID, handle)))
            if uuid is not None:
                cards[index] = Card(self._library, handle, uuid)
        return cards

    def names(self) -> tuple[str, ...]:
        return tuple(card.name() or card.uuid for card in self.cards())

    def driver_version(self) -> str | None:
        return _text(self._ask(self._library.nvmlSystemGetDriverVersion))

    def _ask(self, question: Callable[[], T]) -> T | None:
        return _answer(self._library, question)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedNvml:
    """NVML, or None with the reason why not."""

    nvml: Nvml | None
    reason: str = ""


def open_nvml(library: Any = None) -> OpenedNvml:
    """Initialise NVML; `library` stands in for the pynvml module in tests."""
    if library is None:
        try:
            library = importlib.import_module("pynvml")
        except ImportError as error:
            return OpenedNvml(nvml=None, reason=f"nvidia-ml-py is not installed ({error})")
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return OpenedNvml(nvml=None, reason=f"NVML does not start: {error}")
    return OpenedNvml(nvml=Nvml(library))


def _answer(library: Any, question: Callable[[], T]) -> T | None:
    """The answer, None where NVML refuses: NotSupported, NoPermission, GpuIsLost and all their kin."""
    try:
        return question()
    except library.NVMLError:
        return None


def _held(listed: Any) -> Mapping[int, int | None] | None:
    if listed is None:
        return None
    return {int(process.pid): process.usedGpuMemory or None for process in listed}


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
