"""The processes that a pool started: a pool itself does not tell whom to end."""

from __future__ import annotations

from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any


class RecordingContext(SpawnContext):
    """Starts processes as `spawn` does, and knows which."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # a class there
        process = SpawnProcess(*args, **kwargs)
        self.started.append(process)
        return process

    def kill_started(self) -> None:
        """End what was started here, and nothing else; one that is just being started is not among it yet."""
        for process in self.started:
            if process.pid is not None:
                process.kill()
