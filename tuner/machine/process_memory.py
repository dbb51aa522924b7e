"""A process's memory as Linux tells it."""

from __future__ import annotations

from pathlib import Path


def read_status_bytes(status: Path, key: str) -> int | None:
    """A memory figure of a /proc/PID/status file, None where there is no such file or line."""
    try:
        text = status.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024  # the kernel's kB are KiB
    return None
