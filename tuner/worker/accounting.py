"""How the worker counts its own memory around an attempt: on a CPU by the operating system's accounting."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from typing import Protocol

from ..machine.process_memory import lifetime_peak_bytes, read_status_bytes
from ..measuring.protocol import CudaMemory, HostMemory, MeasureRequest

# What a worker may keep after an attempt and still count as back at its baseline: libraries' buffers and the
# C allocator's arenas. Between like attempts of the smallest model under 1 MiB was seen.
HOST_RESIDUE_BYTES = 64 << 20
# On top of it where the attempt imported modules: torch's compiler keeps 160 MiB once it is loaded.
HOST_IMPORTS_BYTES = 512 << 20


class Account(Protocol):
    """Counts one attempt at a time, and says whether the worker is afterwards as it was before."""

    def begin(self, request: MeasureRequest) -> None:
        """Set the cap, note the baseline and reset the peaks.

        Raises: MemoryError where the budget leaves the attempt nothing.
        """
        ...

    def note_iteration(self) -> None:
        """Look at the device after an iteration."""
        ...

    def alloc_retries(self) -> int:
        """How often the allocator had to free its cache and try again since the worker started."""
        ...

    def memory_stats(self) -> dict[str, int]:
        """The allocator's own peaks and counters over the attempt."""
        ...

    def report(self) -> CudaMemory | HostMemory:
        """The attempt's memory so far."""
        ...

    def settle(self) -> str | None:
        """Free what is free, and say why the worker is not back at its baseline, None where it is."""
        ...


class HostAccount:
    """Resident memory of this process. Linux tells the peak (VmHWM) and lets it be reset for each attempt.

    Where the kernel refuses the reset, or tells no VmHWM, the peak is that of the process's whole life: then
    the worker asks to be replaced after every attempt, so that the figure is still that attempt's own.
    """

    def __init__(self, proc: Path = Path("/proc/self")) -> None:
        self._proc = proc
        self._before_bytes = 0
        self._is_reset = False
        self._modules_before = 0

    def begin(self, request: MeasureRequest) -> None:
        _release_free_memory()
        self._modules_before = len(sys.modules)
        self._is_reset = self._reset_peak()
        self._before_bytes = self._resident_bytes()

    def note_iteration(self) -> None:
        """Nothing to look at: the kernel keeps the peak."""

    def alloc_retries(self) -> int:
        return 0

    def memory_stats(self) -> dict[str, int]:
        return {}

    def report(self) -> HostMemory:
        peak = read_status_bytes(self._proc / "status", "VmHWM")
        if peak is not None:
            source = "VmHWM, reset before the trial"
            if not self._is_reset:
                source = "VmHWM of the worker's whole life (the kernel refused a reset)"
        else:
            peak = lifetime_peak_bytes()
            source = "ru_maxrss of the worker's whole life (the kernel tells no VmHWM)"
        return HostMemory(before_bytes=self._before_bytes, peak_bytes=peak, source=source)

    def settle(self) -> str | None:
        _release_free_memory()
        if not self._is_reset:
            return "the kernel does not allow the memory peak to be reset"
        residue = self._resident_bytes() - self._before_bytes
        has_imported = len(sys.modules) > self._modules_before
        if residue > HOST_RESIDUE_BYTES + (HOST_IMPORTS_BYTES if has_imported else 0):
            return f"{residue} bytes of memory were not given back after the attempt"
        return None

    def _resident_bytes(self) -> int:
        resident = read_status_bytes(self._proc / "status", "VmRSS")
        return lifetime_peak_bytes() if resident is None else resident

    def _reset_peak(self) -> bool:
        if read_status_bytes(self._proc / "status", "VmHWM") is None:
            return False
        try:
            # 5: reset the peak resident set size, proc(5)
            (self._proc / "clear_refs").write_text("5", encoding="utf-8")
        except OSError:
            return False
        return True


def _release_free_memory() -> None:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
