"""Which process drives a study, so that others can tell whether it still runs."""

from __future__ import annotations

import os
import platform
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_SYSTEM = Path("/proc/sys/kernel/random/boot_id")
_NUMBERS = "/proc/self/ns/pid"


def present_driver() -> dict[str, Any]:
    """This process as JSON has it: its host, its number there, since when it drives."""
    pid = os.getpid()
    return {
        "host": platform.node(),
        "pid": pid,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": _system(),
        "started": _started(pid),
        "token": uuid.uuid4().hex,
    }


def has_ended(driver: dict[str, Any]) -> bool:
    """Whether a driver ran on this system and runs no more; False where that cannot be told from here."""
    if driver.get("system") != _system() or driver.get("system") is None:
        return False
    return _started(int(driver["pid"])) != driver.get("started")


def _system() -> str | None:
    """What two processes have in common whose numbers mean the same."""
    try:
        system = _SYSTEM.read_text(encoding="ascii").strip()
        return f"{system} {os.readlink(_NUMBERS)}"
    except OSError:
        return None


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the system did; None where there is none, or only its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])
