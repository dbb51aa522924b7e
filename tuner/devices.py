"""Which device a study runs on, decided without importing torch into the driver."""

from __future__ import annotations

import functools
import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

from .environment import host_memory_bytes, installed_version
from .errors import DeviceError, UserInputError
from .measurement import DeviceKind

PROBE_TIMEOUT_S = 120.0  # importing torch from a cold disk under WSL takes tens of seconds
_PROBE = """
import json, torch
found = torch.cuda.is_available()
total = torch.cuda.get_device_properties(0).total_memory if found else None
print(json.dumps({"total_bytes": total, "built_for": torch.version.cuda}))
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CudaProbe:
    """What a child process with torch found: the first visible card's memory, or why there is none."""

    total_bytes: int | None
    reason: str = ""


@functools.cache
def probe_cuda() -> CudaProbe:
    """Ask torch, in a child process, for a usable CUDA device."""
    version = installed_version("torch")
    if version is None:
        return CudaProbe(total_bytes=None, reason="torch is not installed")
    if version.endswith("+cpu"):
        return CudaProbe(total_bytes=None, reason=f"torch {version} is a build without CUDA")
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return CudaProbe(total_bytes=None, reason=f"torch did not answer in {PROBE_TIMEOUT_S:.0f} s")
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
        return CudaProbe(total_bytes=None, reason=f"torch failed to start: {last[0]}")
    except json.JSONDecodeError:
        return CudaProbe(total_bytes=None, reason=f"torch's probe answered {done.stdout[:80]!r}")
    if answer["total_bytes"] is None:
        built_for = answer["built_for"]
        reason = "torch sees no CUDA device" if built_for else f"torch {version} is a build without CUDA"
        return CudaProbe(total_bytes=None, reason=reason)
    return CudaProbe(total_bytes=int(answer["total_bytes"]))


def resolve_device(choice: Literal["auto", "cuda", "cpu"]) -> DeviceKind:
    """The device to measure on. "auto" takes a GPU where torch can use one, and else measures nothing.

    Raises: UserInputError for "cuda" without a usable GPU.
    """
    if choice == "cpu":
        return "cpu"
    probe = probe_cuda()
    if probe.total_bytes is not None:
        return "cuda"
    if choice == "cuda":
        raise UserInputError(
            f"--device: expected an NVIDIA GPU for 'cuda', found none ({probe.reason}); "
            "use --device cpu, or see what `phase8-tune doctor` says"
        )
    _warn_of_unused_gpu(probe.reason)
    return "predicted"


def device_total_bytes(device: Literal["cuda", "cpu"], gpu_uuid: str | None = None) -> int:
    """The card's memory (the first visible one without a UUID), or the machine's for "cpu".

    Raises: UserInputError for a UUID that no card has; DeviceError for "cuda" without a usable GPU.
    """
    if device == "cpu":
        return host_memory_bytes()
    if gpu_uuid is not None:
        from .nvml import open_nvml

        opened = open_nvml()
        card = opened.nvml.find(gpu_uuid) if opened.nvml is not None else None
        memory = card.memory() if card is not None else None
        if memory is None:
            reason = opened.reason or "NVML knows none"
            raise UserInputError(
                f"--gpu-uuid: expected a card's UUID, got {gpu_uuid!r} ({reason}); `nvidia-smi -L` lists them"
            )
        return memory.total_bytes
    probe = probe_cuda()
    if probe.total_bytes is None:
        raise DeviceError(f"no usable GPU ({probe.reason}); see what `phase8-tune doctor` says")
    return probe.total_bytes


def _warn_of_unused_gpu(reason: str) -> None:
    """A GPU that torch cannot use should not be passed over in silence."""
    from .nvml import open_nvml

    nvml = open_nvml().nvml
    names = nvml.names() if nvml is not None else ()
    if names:
        _log.warning("predicting, not measuring, although there is %s: %s", ", ".join(names), reason)
