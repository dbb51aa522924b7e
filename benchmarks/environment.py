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


def environment() -> dict[str, Any]:
    """GPU, driver, CUDA, torch, triton, Python, commit and command line."""
    properties = torch.cuda.get_device_properties(0)
    root = Path(__file__).parent.parent
    return {
        "gpu": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "os": platform.system(),
        "commit": _output(["git", "-C", str(root), "rev-parse", "HEAD"]),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _output(command: list[str]) -> str | None:
    """Standard output of a command, or None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None
