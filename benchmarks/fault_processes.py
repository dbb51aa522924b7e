"""The processes that a fault case starts, known by a mark in their environment."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

from ..tuner.values.interrupt import ENDING_SIGNALS

MARK = "PHASE8_TUNE_FAULTS"
_GRACE_S = 10.0  # for a killed process to be gone


def ignore_signals_alone() -> None:
    """Have no command that is called or started here ignore a signal because this process does.

    A job in the background of a shell without job control has Ctrl-C ignored, one under nohup SIGHUP; that is
    handed on to what it starts, and our commands keep to it. A handler that does nothing is not handed on.
    """
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


def marked() -> list[int]:
    """The processes that bear this benchmark's mark."""
    mark = f"{MARK}={os.environ[MARK]}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            content = path.read_bytes()
        except OSError:  # it ended, or is another user's
            continue
        if mark in content + b"\0" and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


def leftovers() -> list[int]:
    """The marked processes that are still there after a killed one's time to go."""
    deadline_s = time.monotonic() + _GRACE_S
    return [pid for pid in marked() if not _ends(pid, deadline_s - time.monotonic())]


def _ends(pid: int, timeout_s: float) -> bool:
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], max(timeout_s, 0.0))[0])
    finally:
        os.close(watched)
