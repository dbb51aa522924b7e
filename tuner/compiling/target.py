"""Compiles Triton kernels for a GPU that need not be there, into the cache from which a launch takes them.

Triton names a compiled kernel after its source, its specialization, the options and the target, and asks the
active driver for the target only. So with a driver that names the target Triton's own way of compiling writes
exactly what a launch on that GPU will look for.
"""

from __future__ import annotations

import ctypes
import functools
import time
from importlib import import_module
from operator import attrgetter
from typing import Any

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from .specialization import Compiled, Specialization

_WARP = 32


class TargetDriver:
    """Stands in for the driver of a GPU of some architecture (90 for 9.0): what Triton asks to compile."""

    def __init__(self, architecture: int) -> None:
        self._architecture = architecture

    def get_current_target(self) -> Any:
        return GPUTarget("cuda", self._architecture, _WARP)

    def get_current_device(self) -> int:
        """What a kernel's own caches are told apart by: one for each architecture."""
        return self._architecture

    def get_current_stream(self, device: int) -> int:
        return 0

    @functools.cached_property
    def utils(self) -> Any:
        """The real driver's functions, compiled where they are not in the cache yet; none is called."""
        from triton.backends.nvidia.driver import CudaUtils

        return CudaUtils()


def aim_at(architecture: int) -> None:
    """From now on this process compiles for GPUs of this architecture."""
    driver.set_active(_driver(architecture))


@functools.cache
def _driver(architecture: int) -> TargetDriver:
    return TargetDriver(architecture)


def compile_specialization(form: Specialization, architecture: int) -> Compiled:
    """Have a form of a kernel in Triton's cache, and what launches it.

    Raises: whatever Triton raises for a kernel that it cannot compile.
    """
    started_s = time.perf_counter()
    aim_at(architecture)
    hits: list[bool] = []
    knobs.compilation.listener = lambda *, cache_hit, **_: hits.append(cache_hit)
    kernel = attrgetter(form.kernel)(import_module(form.module)).preload(form.description)
    if _has_cuda_driver():
        from triton.backends.nvidia.driver import CudaLauncher

        # Triton 3.6 compiles a launcher in C for every signature, which takes as long as a small kernel.
        CudaLauncher(kernel.src, kernel.metadata)
    path = next(path for name, path in kernel.metadata_group.items() if name.endswith(".json"))
    return Compiled(path=str(path), is_new=hits != [True], seconds=time.perf_counter() - started_s)


@functools.cache
def _has_cuda_driver() -> bool:
    """Whether there is the library that launchers are linked with; without it nothing can be launched."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
