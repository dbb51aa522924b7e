"""Which device a study runs on, decided without importing torch into the driver."""

from __future__ import annotations

import functools
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

from ..values.errors import DeviceError, UserInputError
from ..values.measurement import DeviceKind
from .environment import host_memory_bytes, installed_version

PROBE_TIMEOUT_S = 120.0  # importing torch from a cold disk under WSL takes tens of seconds
_PROBE = """
import json, sys, torch
count = min(torch.cuda.device_count(), int(sys.argv[1])) if torch.cuda.is_available() else 0
found = [torch.cuda.get_device_properties(i) for i in range(count)]
print(json.dumps({
    "total_bytes": min((card.total_memory for card in found), default=None),
    "uuids": [f"GPU-{card.uuid}" for card in found],
    "built_for": torch.version.cuda,
}))
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CudaProbe:
    """What a child process with torch found: the memory of the (smallest) card, or why there is none.

    uuids: of the cards, by which NVML knows them.
    """

    total_bytes: int | None
    uuids: tuple[str, ...] = ()
    reason: str = ""


@functools.cache
def probe_cuda(gpus: tuple[str, ...] = ()) -> CudaProbe:
    """Ask torch, in a child process, for the GPUs of these UUIDs; without any, for the first visible."""
    version = installed_version("torch")
    if version is None:
        return CudaProbe(total_bytes=None, reason="torch is not installed")
    if version.endswith("+cpu"):
        return CudaProbe(total_bytes=None, reason=f"torch {version} is a build without CUDA")
    visible = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, str(len(gpus) or 1)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **visible},
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
    return CudaProbe(total_bytes=int(answer["total_bytes"]), uuids=tuple(answer["uuids"]))


def resolve_device(choice: Literal["auto", "cuda", "cpu"], gpus: tuple[str, ...] = ()) -> DeviceKind:
    """The device to measure on. "auto" takes a GPU where torch can use one, and else measures nothing; who
    names GPUs wants them.

    Raises: UserInputError for "cuda" without a usable GPU, and for "cpu" with GPUs.
    """
    if choice == "cpu":
        if gpus:
            raise UserInputError("--gpus: expected --device cuda or auto beside it, got --device cpu")
        return "cpu"
    probe = probe_cuda(gpus)
    if probe.total_bytes is not None:
        return "cuda"
    if gpus:
        raise UserInputError(
            f"--gpus: expected CUDA to have {', '.join(gpus)}, found none ({probe.reason}); "
            "leave --gpus out, or see what `phase8-tune doctor` says"
        )
    if choice == "cuda":
        raise UserInputError(
            f"--device: expected an NVIDIA GPU for 'cuda', found none ({probe.reason}); "
            "use --device cpu, or see what `phase8-tune doctor` says"
        )
    _warn_of_unused_gpu(probe.reason)
    return "predicted"


def device_total_bytes(device: Literal["cuda", "cpu"], gpus: tuple[str, ...] = ()) -> int:
    """The memory of the smallest of these cards (of the first visible one without any), or the machine's.

    Raises: DeviceError for "cuda" without a usable GPU.
    """
    if device == "cpu":
        return host_memory_bytes()
    probe = probe_cuda(gpus)
    if probe.total_bytes is None:
        raise DeviceError(f"no usable GPU ({probe.reason}); see what `phase8-tune doctor` says")
    return probe.total_bytes


def device_uuids(gpus: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The same cards by the UUIDs of NVML; none without a usable GPU."""
    return gpus or probe_cuda().uuids


def _warn_of_unused_gpu(reason: str) -> None:
    """A GPU that torch cannot use should not be passed over in silence."""
    from .nvml import open_nvml

    nvml = open_nvml().nvml
    names = nvml.names() if nvml is not None else ()
    if names:
        _log.warning("predicting, not measuring, although there is %s: %s", ", ".join(names), reason)
