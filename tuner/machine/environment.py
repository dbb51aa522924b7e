"""What a number was measured on: the machine and the software, gathered without importing torch."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ... import __version__
from ..values.measurement import DeviceInfo, Versions


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """The rows of a report's environment section, in the seed's order.

    `measured_at` is local time in ISO 8601 with its offset; `triton_status` a sentence.
    """

    device: DeviceInfo
    versions: Versions
    triton_status: str
    measured_at: str

    def rows(self) -> tuple[tuple[str, str], ...]:
        """(label, value) pairs for people; a GPU's rows only where there is one."""
        gib = f"{self.device.total_bytes / 2**30:.2f} GiB"
        versions = self.versions
        machine: tuple[tuple[str, str], ...] = (
            ("Device", "cpu"),
            ("Processor", self.device.name),
            ("Memory", gib),
        )
        if self.device.kind == "cuda":
            machine = (
                ("Device", "cuda"),
                ("GPU", self.device.name),
                ("VRAM", gib),
                ("CUDA", versions.cuda or "none"),
                ("Driver", versions.driver or "not told"),
            )
        if self.device.kind == "predicted":
            machine = (("Device", "none: predicted"), ("GPU predicted for", self.device.name), ("VRAM", gib))
        return (
            *machine,
            ("PyTorch", versions.torch),
            ("Triton", versions.triton or "none"),
            ("Triton status", self.triton_status),
            ("Python", versions.python),
            ("phase8-tune", versions.phase8_tune),
            ("OS", versions.os),
            ("Time", self.measured_at),
        )


def gather_environment(device: DeviceInfo, versions: Versions) -> Environment:
    """The environment of a study from what its worker reported."""
    return Environment(
        device=device,
        versions=versions,
        triton_status=triton_status(device, versions),
        measured_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def driver_versions() -> Versions:
    """The software of this process, which imports no torch and knows no driver."""
    return Versions(
        phase8_tune=__version__,
        python=platform.python_version(),
        torch=installed_version("torch") or "not installed",
        triton=installed_version("triton"),
        cuda=None,
        driver=None,
        os=os_name(),
    )


def triton_status(device: DeviceInfo, versions: Versions) -> str:
    """What Triton can do here, as far as versions tell; only running a kernel proves more."""
    if versions.triton is None:
        return "not installed: only the reference kernels run"
    if device.kind == "predicted":
        return "installed; its kernels were followed, not run"
    if device.kind == "cpu":
        return "installed; not used on a CPU, which runs the reference kernels"
    return "installed"


def installed_version(distribution: str) -> str | None:
    """The installed version of a distribution, None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def is_wsl(release: str | None = None) -> bool:
    """Whether this is the Windows Subsystem for Linux: its kernels name Microsoft in their release."""
    return "microsoft" in (platform.release() if release is None else release).lower()


def os_name() -> str:
    """The operating system for people, WSL named, for example `WSL Ubuntu 24.04.1 LTS`."""
    if platform.system() != "Linux":
        return f"{platform.system()} {platform.release()}"
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:  # no os-release file, as in minimal containers
        distribution = "Linux"
    return f"{'WSL ' if is_wsl() else ''}{distribution}"


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name for people, with the number of logical processors this process may use."""
    name = platform.processor() or platform.machine()
    try:
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                name = value.strip()
                break
    except OSError:
        pass  # not Linux: the platform's own name stands
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name} ({usable} logical processors)"


_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def host_memory_bytes(limits: tuple[Path, ...] = _CGROUP_LIMITS) -> int:
    """The machine's memory, or the container's limit where that is smaller."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in limits:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError:
            continue  # this control-group version is not mounted here
        if text.isdigit():  # the second version writes "max" for no limit
            total = min(total, int(text))
    return total
