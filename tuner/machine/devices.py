"""Which device a study runs on, decided without importing torch into the driver."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..values.atomic_write import write_atomically
from ..values.errors import DeviceError, UserInputError
from ..values.measurement import DeviceKind
from .cache_folder import writable_cache_folder
from .environment import host_memory_bytes, installed_version
from .nvml import open_nvml

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
    """What torch finds of the GPUs of these UUIDs; without any, of the first visible.

    Asked in a child process, which takes seconds: what it found is kept while the cards that NVML lists, the
    driver, torch and what is visible stay the same.
    """
    version = installed_version("torch")
    if version is None:
        return CudaProbe(total_bytes=None, reason="torch is not installed")
    if version.endswith("+cpu"):
        return CudaProbe(total_bytes=None, reason=f"torch {version} is a build without CUDA")
    kept = _kept_probe(version, gpus)
    if kept is not None and (found := _read_probe(kept)) is not None:
        return found
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
    found = CudaProbe(total_bytes=int(answer["total_bytes"]), uuids=tuple(answer["uuids"]))
    if kept is not None:
        with contextlib.suppress(OSError):  # a convenience: the next run asks again
            write_atomically(kept, json.dumps({"total_bytes": found.total_bytes, "uuids": found.uuids}))
    return found


def _kept_probe(torch_version: str, gpus: tuple[str, ...]) -> Path | None:
    """Where an answer is kept, named after all that it depends on; None where NVML does not tell."""
    nvml = open_nvml().nvml
    if nvml is None:
        return None
    cards = sorted(card.uuid for card in nvml.cards())
    seen = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER")
    parts = [torch_version, sys.executable, nvml.driver_version(), cards, gpus, seen]
    name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
    return writable_cache_folder("probes") / f"{name}.json"


def _read_probe(path: Path) -> CudaProbe | None:
    try:
        data = json.loads(path.read_bytes())
        return CudaProbe(total_bytes=int(data["total_bytes"]), uuids=tuple(map(str, data["uuids"])))
    except (OSError, ValueError, TypeError, KeyError):
        return None  # none yet, or a damaged file: asked again


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
