"""The machine around the GPU: WSL, containers, disk, installed versions; nothing here needs CUDA."""

from __future__ import annotations

import os
import shutil
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..machine.environment import is_wsl
from .facts import RangeMiss, RunsFolder, WslFacts

DISTRIBUTION = "phase8-tune"
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of Linux


def wsl_facts(root: Path = Path("/"), release: str | None = None) -> WslFacts:
    """`root` and `release` (of the kernel) stand in for this machine's in tests."""
    return WslFacts(
        is_wsl=is_wsl(release),
        has_gpu_device=(root / "dev/dxg").exists(),
        has_driver_library=(root / "usr/lib/wsl/lib/libcuda.so.1").exists(),
    )


def in_container(root: Path = Path("/")) -> bool:
    """Whether Docker's or Podman's mark is there."""
    return (root / ".dockerenv").exists() or (root / "run/.containerenv").exists()


def runs_folder(path: Path) -> RunsFolder:
    """Free space and access of the folder, or of the nearest one above it that exists."""
    nearest = path.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        free_bytes = shutil.disk_usage(nearest).free
    except OSError:
        free_bytes = None
    is_writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return RunsFolder(path=str(path), free_bytes=free_bytes, is_writable=is_writable)


def process_name(pid: int, proc: Path = Path("/proc")) -> str | None:
    """The name of a process that NVML lists, None where it cannot be told.

    In a container NVML's numbers are the host's and would name a wrong process.
    """
    try:
        namespace = os.readlink(proc / "self/ns/pid")
    except OSError:
        return None
    if namespace != _INITIAL_PID_NAMESPACE:
        return None
    try:
        return (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def out_of_range(python: str, distribution: str = DISTRIBUTION) -> tuple[RangeMiss, ...]:
    """What is installed outside of the ranges that the package's metadata (pyproject.toml) gives."""
    try:
        asked = metadata.metadata(distribution)
    except metadata.PackageNotFoundError:
        return (RangeMiss(name=distribution, installed=None, expected="installed as a package"),)
    misses = []
    (python_range,) = asked.get_all("Requires-Python") or ("",)
    if not SpecifierSet(python_range).contains(python, prereleases=True):
        misses.append(RangeMiss(name="Python", installed=python, expected=python_range))
    for line in asked.get_all("Requires-Dist") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed: str | None = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            installed = None
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            misses.append(
                RangeMiss(name=requirement.name, installed=installed, expected=str(requirement.specifier))
            )
    return tuple(misses)
