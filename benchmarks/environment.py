"""What a benchmark ran on: goes into every result."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import triton

from ..tuner.machine.environment import processor_name


def environment() -> dict[str, Any]:
    """GPU, driver, CUDA, torch, triton, Python, commit and command line; without a GPU its processor."""
    root = Path(__file__).parent.parent
    return {
        **(_gpu() if torch.cuda.is_available() else _processor()),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "os": platform.system(),
        "commit": _output(["git", "-C", str(root), "rev-parse", "HEAD"]),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
        "cuda": torch.version.cuda,
    }


def _processor() -> dict[str, Any]:
    return {"gpu": f"none; on the CPU, {processor_name()}", "driver": "none", "cuda": "none"}


def _output(command: list[str]) -> str | None:
    """Standard output of a command, or None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None
