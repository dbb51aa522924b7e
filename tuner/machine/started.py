"""Processes that a pool starts: which they are, as a pool itself does not tell whom to end, without the
script that is running, and deaf to Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

_STARTING = threading.Lock()


class _Process(SpawnProcess):
    def start(self) -> None:
        """Start without the main module, which a spawned process would import anew: nothing of it is needed,
        and a script that calls `predict` at its top level would do so once more in every process.

        Where that module is looked for, an empty one stands meanwhile. Ctrl-C, which reaches every process
        of a terminal, is blocked in the new one from its first moment: it takes seconds to get to code of
        ours, and its driver ends it.
        """
        resource_tracker.ensure_running()  # where it is started, it unblocks what is blocked
        with _STARTING, _ctrl_c_blocked():
            main = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main


@contextlib.contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """In this thread, and for good in the processes that it starts; one that comes meanwhile comes later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class RecordingContext(SpawnContext):
    """Starts processes as `spawn` does, but for the main module, and knows which."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # a class there
        process = _Process(*args, **kwargs)
        self.started.append(process)
        return process

    def kill_started(self) -> None:
        """End what was started here, and nothing else; one that is just being started is not among it yet."""
        for process in self.started:
            if process.pid is not None:
                process.kill()
