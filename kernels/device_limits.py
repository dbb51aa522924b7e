"""What a device allows a kernel: shared memory a block, multiprocessors, whether Triton runs at all."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
import triton
from torch import Tensor

from .versions import UnsupportedVersionError

SHARED_MEMORY_BYTES: dict[tuple[int, int], int] = {
    (8, 0): 166_912,
    (8, 6): 101_376,
    (8, 9): 101_376,
    (9, 0): 232_448,
    (10, 0): 232_448,
    (12, 0): 101_376,
}
"""Opt-in shared memory a block by compute capability, so that configurations can be checked without a GPU.

Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability" (a block's maximum: 163,
99, 99, 227, 227 and 99 KiB).
"""

SMALLEST_SHARED_MEMORY_BYTES = min(SHARED_MEMORY_BYTES.values())
"""The limit under Triton's interpreter, which has none: every configuration tested there runs on any GPU."""

INTERPRETER_MULTIPROCESSORS = 4
"""Multiprocessors under the interpreter: more than one, so that a fixed grid's borders are crossed."""


_assumed: tuple[int, int] | None = None


@contextlib.contextmanager
def assuming_limits(*, shared_memory_bytes: int, multiprocessors: int) -> Iterator[None]:
    """Inside, every tensor counts as being on a GPU with these limits: for tracing without the GPU.

    What is run and not traced needs a GPU that has no less.
    """
    global _assumed
    before, _assumed = _assumed, (shared_memory_bytes, multiprocessors)
    try:
        yield
    finally:
        _assumed = before


def interpreting() -> bool:
    """Whether Triton kernels run under its interpreter, on the CPU (TRITON_INTERPRET=1)."""
    return bool(triton.knobs.runtime.interpret)


def shared_memory_limit(device: torch.device) -> int:
    """Bytes of shared memory one block of threads may use on this device.

    Raises: UnsupportedVersionError for a CPU without the interpreter.
    """
    return (_assumed or _limits(_resolved(device)))[0]


def multiprocessor_count(device: torch.device) -> int:
    """Number of streaming multiprocessors of this device.

    Raises: UnsupportedVersionError for a CPU without the interpreter.
    """
    return (_assumed or _limits(_resolved(device)))[1]


def require_triton_device(tensor: Tensor, operation: str = "this kernel") -> None:
    """Refuse tensors that no Triton kernel can read here.

    Raises: UnsupportedVersionError for tensors that are not on a CUDA GPU while the interpreter is off.
    """
    _require(tensor.device, operation)


def _require(device: torch.device, operation: str) -> None:
    if device.type != "cuda" and not interpreting() and _assumed is None:
        raise UnsupportedVersionError(
            f"{operation}: expected tensors on a CUDA GPU, got {device}; "
            "use kernel version 'reference' here (TRITON_INTERPRET=1 runs Triton's interpreter, for tests)"
        )


def _resolved(device: torch.device) -> torch.device:
    """The device with its index: a cache keyed by "cuda" would outlive a change of the current device."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


@functools.cache
def _limits(device: torch.device) -> tuple[int, int]:
    _require(device, "device limits")
    if device.type != "cuda":
        return SMALLEST_SHARED_MEMORY_BYTES, INTERPRETER_MULTIPROCESSORS
    # Triton's own figures: what it holds a kernel against when it loads it
    properties = triton.runtime.driver.active.utils.get_device_properties(device.index)
    return properties["max_shared_mem"], properties["multiprocessor_count"]
