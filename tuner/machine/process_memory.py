"""A process's memory as Linux tells it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def read_status_bytes(status: Path, key: str) -> int | None:
    """A memory figure of a /proc/PID/status file, None where there is no such file or line."""
    try:
        text = status.read_text(encoding="utf-8")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024  # the kernel's kB are KiB
    return None


def process_peak_bytes() -> int:
    """The most resident memory that this process ever had."""
    peak = read_status_bytes(Path("/proc/self/status"), "VmHWM")
    return lifetime_peak_bytes() if peak is None else peak


def lifetime_peak_bytes() -> int:
    """The same by the accounting of resources, which exists where Linux's /proc does not."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
