"""Which processes a test has started, and whether they are gone."""

from __future__ import annotations

import os
import select
from pathlib import Path


def child_pids() -> list[int]:
    """The running children of this process, of all its threads."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [int(pid) for children in listed for pid in children.read_text().split()]


def is_gone(pid: int) -> bool:
    """Whether the process ends within a generous time (a pidfd becomes readable when it does)."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], 60)[0])
    finally:
        os.close(watched)
