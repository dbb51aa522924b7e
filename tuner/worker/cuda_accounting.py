"""How the worker counts its own memory on a card: the allocator's counters, its cap, and the context."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from dataclasses import dataclass

import torch

from ..machine.nvml import Nvml, open_nvml
from ..measuring.memory import cap_bytes
from ..measuring.protocol import CudaMemory, MeasureRequest
from ..values.measurement import DeviceInfo

PROBE_TIMEOUT_S = 120.0
# A second process that takes a bare context, says so, and waits for its input to end.
_CONTEXT_PROBE = "import torch; torch.cuda.synchronize(); print('ready', flush=True); input()"
_PEAKS = ("allocated_bytes", "active_bytes", "reserved_bytes", "inactive_split_bytes")
_COUNTERS = ("num_alloc_retries", "num_ooms", "num_device_alloc", "num_device_free")


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedCuda:
    """The card with a bare context on it, and what that context takes."""

    info: DeviceInfo
    driver: str | None
    context_bytes: int
    context_source: str


def open_cuda() -> OpenedCuda:
    """Create the CUDA context on the first visible card and measure what it takes.

    Raises: RuntimeError (torch's) where there is no usable card.
    """
    nvml = open_nvml().nvml
    before = _used_by_uuid(nvml)
    torch.cuda.synchronize()
    info = describe_card()
    uuid = str(info.uuid)
    after = _used_by_uuid(nvml)
    driver = nvml.driver_version() if nvml is not None else None
    own = used_by_this_process(nvml, uuid)
    taken = after.get(uuid, 0) - before.get(uuid, 0)
    if own is not None:  # whatever other programs took or gave back meanwhile
        taken, source = own, "nvml process used, with the bare context"
    elif taken > 0:
        source = "nvml device used, before and after the bare context"
    else:
        taken, source = _context_by_probe()
    return OpenedCuda(info=info, driver=driver, context_bytes=taken, context_source=source)


def describe_card() -> DeviceInfo:
    """The first visible card as torch tells it.

    Raises: RuntimeError (torch's) where there is no usable card.
    """
    properties = torch.cuda.get_device_properties(0)
    return DeviceInfo(
        kind="cuda",
        name=properties.name,
        total_bytes=properties.total_memory,
        uuid=f"GPU-{properties.uuid}",
        compute_capability=f"{properties.major}.{properties.minor}",
        shared_memory_per_block_bytes=getattr(
            properties, "shared_memory_per_block_optin", properties.shared_memory_per_block
        ),
    )


def _used_by_uuid(nvml: Nvml | None) -> dict[str, int]:
    """What is in use on every card; the number of ours is not known before there is a context."""
    if nvml is None:
        return {}
    memories = {card.uuid: card.memory() for card in nvml.cards()}
    return {uuid: memory.used_bytes for uuid, memory in memories.items() if memory is not None}


def used_by_this_process(nvml: Nvml | None, uuid: str) -> int | None:
    """What the driver says that this process has of a card; None where it does not (WSL, containers)."""
    card = None if nvml is None else nvml.find(uuid)
    listed = None if card is None else card.processes()
    return None if listed is None else listed.get(os.getpid()) or None


def device_used_bytes() -> int:
    """What is in use of the present device, by whomever."""
    free, total = torch.cuda.mem_get_info()
    return total - free


def _context_by_probe() -> tuple[int, str]:
    """Without NVML: what the card's use rises by when a second process takes a bare context."""
    before = device_used_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", _CONTEXT_PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as probe:
        assert probe.stdout is not None  # asked for just above
        is_ready = probe.stdout.readline().strip() == b"ready"
        taken = device_used_bytes() - before
        probe.communicate(b"\n", timeout=PROBE_TIMEOUT_S)
    if is_ready and taken > 0:
        return taken, "cudaMemGetInfo, before and after a second bare context"
    return before, "cudaMemGetInfo with the bare context (at most: other programs are in it)"


class CudaAccount:
    """Torch's caching allocator on the first visible card, capped, and cudaMemGetInfo beside it."""

    def __init__(self, opened: OpenedCuda) -> None:
        self._opened = opened
        self._allocated_before = torch.cuda.memory_allocated()
        self._reserved_before = torch.cuda.memory_reserved()
        self._counters_before: dict[str, int] = {}
        self._used_before = 0
        self._used_peak = 0

    def begin(self, request: MeasureRequest) -> None:
        _give_back()
        held = max(self._opened.context_bytes, request.held_bytes)
        cap = cap_bytes(
            budget_bytes=request.budget_bytes,
            reserve_bytes=request.reserve_bytes,
            held_bytes=held,
            capacity_bytes=self._opened.info.total_bytes,
        )
        self._counters_before = self._counters()
        self._used_before = self._used_peak = device_used_bytes()
        torch.cuda.reset_peak_memory_stats()
        if cap <= 0:
            raise MemoryError(
                f"the CUDA context and libraries take {held} bytes and the reserve "
                f"{request.reserve_bytes}: nothing is left of the budget of {request.budget_bytes}"
            )
        torch.cuda.set_per_process_memory_fraction(cap / self._opened.info.total_bytes)

    def note_iteration(self) -> None:
        self._used_peak = max(self._used_peak, device_used_bytes())

    def alloc_retries(self) -> int:
        return self._counters()["num_alloc_retries"]

    def memory_stats(self) -> dict[str, int]:
        stats = torch.cuda.memory_stats()
        peaks = {f"{name}_peak": int(stats.get(f"{name}.all.peak", 0)) for name in _PEAKS}
        now = self._counters()
        return peaks | {name: now[name] - self._counters_before.get(name, 0) for name in _COUNTERS}

    def report(self) -> CudaMemory:
        return CudaMemory(
            context_bytes=self._opened.context_bytes,
            context_source=self._opened.context_source,
            reserved_peak_bytes=torch.cuda.max_memory_reserved(),
            device_before_bytes=self._used_before,
            device_peak_bytes=self._used_peak,
        )

    def settle(self) -> str | None:
        _give_back()
        allocated = torch.cuda.memory_allocated() - self._allocated_before
        reserved = torch.cuda.memory_reserved() - self._reserved_before
        if allocated > 0 or reserved > 0:
            return f"{allocated} bytes stay allocated and {reserved} reserved on the card after the attempt"
        return None

    def _counters(self) -> dict[str, int]:
        stats = torch.cuda.memory_stats()
        return {name: int(stats.get(name, 0)) for name in _COUNTERS}


def _give_back() -> None:
    """Free what nothing refers to: graphs and code of the compiler, cuBLAS's workspaces, cached blocks."""
    _forget_compiled()
    gc.collect()
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()


def _forget_compiled() -> None:
    """What the compiler holds: compiled functions, and with them captured graphs' pools.

    Where nothing was compiled nothing is forgotten: the first reset of a process takes some 4 s of imports.
    """
    compiler = sys.modules.get("torch._dynamo.utils")
    if compiler is not None and compiler.counters["frames"]["total"] > 0:
        torch._dynamo.reset()
        compiler.counters.clear()
