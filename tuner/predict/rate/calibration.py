"""Figures of the card that is here: measured once in a child process, kept in the user's cache folder.

    python -m phase8_tune.tuner.predict.rate.calibration

prints them as one JSON line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...machine.nvml import open_nvml
from ...values.candidate import Candidate
from ...values.errors import DeviceError
from ...workloads import load_workload
from .profiles import DEFAULT_PROFILE, GpuProfile, gpu_profile, name_after, profile_by_title

_TIMEOUT_S = 300.0
_REPEATS = 20
_HOST_REPEATS = 60
_CHAIN = 300
_CHAIN_LAUNCHES = 3 * _CHAIN


def present_profile() -> GpuProfile:
    """Of the first card that NVML lists: its calibration, else its named profile; else the default's."""
    nvml = open_nvml().nvml
    for card in () if nvml is None else nvml.cards():
        title, memory = card.name() or card.uuid, card.memory()
        profile = known_profile(title, None if memory is None else memory.total_bytes)
        if profile is not None:
            return profile
    return gpu_profile(DEFAULT_PROFILE)


def known_profile(title: str, total_bytes: int | None = None) -> GpuProfile | None:
    """Of a card by the name that its driver gives it: its calibration here, else its named profile.

    total_bytes: its memory, where that is known, see `profile_by_title`.
    """
    return _read(_path(title)) or profile_by_title(title, total_bytes)


def calibrate_present() -> GpuProfile:
    """Measure the card that is here, and keep its profile.

    Raises: DeviceError where there is none, or it fails.
    """
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=_TIMEOUT_S, check=True
        )
        profile = GpuProfile.model_validate_json(done.stdout.strip().splitlines()[-1])
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise DeviceError(f"--calibrate: expected a usable CUDA GPU, got: {last}") from error
    except (OSError, subprocess.TimeoutExpired, ValidationError, IndexError) as error:
        raise DeviceError(f"--calibrate: the measuring process failed: {error}") from error
    from ...machine.cache_folder import warn_not_kept
    from ...values.atomic_write import write_atomically

    path = _path(profile.title)
    try:
        write_atomically(path, profile.model_dump_json(indent=1))
    except OSError as error:
        warn_not_kept(path.parent, error)
    return profile


def _path(title: str) -> Path:
    from importlib.metadata import version

    from ...machine.cache_folder import cache_folder

    name = "-".join(title.lower().split())
    return cache_folder() / "calibrations" / f"{name}-torch-{version('torch')}.json"


def _read(path: Path) -> GpuProfile | None:
    try:
        return GpuProfile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None  # not calibrated, or by another version


def measure() -> GpuProfile:
    """Measure this process's CUDA device. Imports torch; takes some seconds.

    Raises: RuntimeError (torch's) where there is no usable card.
    """
    import torch

    from ...worker.cuda_accounting import open_cuda

    opened = open_cuda()
    properties = torch.cuda.get_device_properties(0)
    blas_bytes, blaslt_bytes = _workspace_bytes(torch)

    def figure(value: float, source: str) -> dict[str, Any]:
        return {"value": value, "basis": "measured", "source": source}

    source, target = (torch.randn(1 << 27, device="cuda") for _ in range(2))
    # Smaller products do not fill a large GPU: an H100 reached 633 TFLOP/s at 4096³, 786 at 8192³
    half = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    single = torch.randn(4096, 4096, device="cuda")
    bandwidth = 2 * source.nbytes / _seconds(torch, lambda: target.copy_(source))
    fast = 2 * 8192**3 / _seconds(torch, lambda: half @ half)
    slow = 2 * 4096**3 / _seconds(torch, lambda: single @ single)
    # Other programs only ever slow the host down
    launch_s = _seconds(torch, lambda: _chain(torch), _HOST_REPEATS, 0.25) / _CHAIN_LAUNCHES
    _train_a_little(torch)
    libraries = _outside_bytes(torch) - opened.context_bytes
    _capture_a_little(torch)
    graph = _outside_bytes(torch) - opened.context_bytes - libraries
    named = profile_by_title(properties.name, properties.total_memory)
    return GpuProfile.model_validate(
        {
            "name": named.name if named is not None else name_after(properties.name),
            "title": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "capacity_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "shared_memory_per_block_bytes": opened.info.shared_memory_per_block_bytes,
            "bandwidth": figure(bandwidth, "512 MiB copied"),
            "matrix_16bit": figure(fast, "8192³ product in bfloat16"),
            "matrix_32bit": figure(slow, "4096³ product in float32"),
            "launch_s": figure(launch_s, "host time of a launch, forward and backward, of one number"),
            "context_bytes": figure(opened.context_bytes, opened.context_source),
            "libraries_bytes": figure(max(0, libraries), "device used - reserved - context, after a step"),
            "graph_bytes": figure(max(0, graph), "device used - reserved, after a capture less before it"),
            "workspace_bytes": blas_bytes,
            "lt_workspace_bytes": blaslt_bytes,
        }
    )


def _outside_bytes(torch: Any) -> int:
    """What is used of the device beside torch's allocator."""
    from ...worker.cuda_accounting import device_used_bytes

    torch.cuda.synchronize()
    return device_used_bytes() - int(torch.cuda.memory_reserved())


def _train_a_little(torch: Any) -> None:
    """A step of the smallest model: libraries load what a training step needs of them."""
    candidate = Candidate(
        model="nano",
        n_seq=256,
        batch_size=1,
        kernel_version="reference",
        mixed_precision="bf16",
        gradient_checkpointing=False,
    )
    run = load_workload(candidate.workload).prepare(candidate, torch.device("cuda"), seed=0)
    run.run_once()
    run.close()


def _capture_a_little(torch: Any) -> None:
    """The capture of a product, on a stream that it was computed on before: the driver's own memory for
    graphs does not depend on what they hold."""
    matrix, stream = torch.ones(256, 256, device="cuda"), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        (matrix @ matrix).sum()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        (matrix @ matrix).sum()
    graph.replay()


def _workspace_bytes(torch: Any) -> tuple[int, int]:
    """What the first product on this thread leaves allocated, and the first that also adds a bias."""
    a = torch.zeros(64, 64, device="cuda")
    bias = torch.zeros(64, device="cuda")
    left = []
    for operation, arguments in ((torch.mm, (a, a)), (torch.addmm, (bias, a, a))):
        before = torch.cuda.memory_allocated()
        product = operation(*arguments)
        left.append(int(torch.cuda.memory_allocated() - before - product.nbytes))
        del product  # else it would be given back within the next difference
    return left[0], left[1]


def _chain(torch: Any) -> None:
    """A chain of operations with their backward pass: what launching costs a training step's host."""
    y = torch.ones(1, device="cuda", requires_grad=True)
    for _ in range(_CHAIN):
        y = y * 0.5 + 1.0  # two launches, and one backward
    y.backward()


def _seconds(torch: Any, run: Callable[[], Any], repeats: int = _REPEATS, quantile: float = 0.5) -> float:
    """Seconds of one call, synchronised: the median of all, or another quantile."""
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[int(repeats * quantile)]


if __name__ == "__main__":
    print(json.dumps(json.loads(measure().model_dump_json())))
