"""Who traces lines for a `PredictionStore`: processes of this computer, or whoever else is handed to it."""

from __future__ import annotations

import os
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from ..machine.started import RecordingContext
from ..values.errors import DeviceError, UserInputError
from ..values.interrupt import interrupt_deferred
from .jobs import Answers, LineJob, answer, prepare_process

TracerLostError = BrokenProcessPool
"""What a job's future raises where whoever traced it was ended from outside."""


class Tracers(Protocol):
    """Answers jobs, several at once. Nothing is started before the first."""

    def submit(self, job: LineJob) -> Future[Answers]:
        """The answers to come; their future raises what `answer` does, and `TracerLostError`.

        Raises: UserInputError where nobody can be started.
        """
        ...

    def abandon(self) -> None:
        """From any thread: end what is being traced, as nobody waits for it any more."""
        ...

    def close(self) -> None:
        """Wait for what is being traced, and begin nothing more."""
        ...


class LocalTracers:
    """Processes of this computer. processes: how many trace at once; None: one a core."""

    def __init__(self, processes: int | None = None) -> None:
        self._processes = processes or os.cpu_count() or 1
        self._context = RecordingContext()
        self._pool: ProcessPoolExecutor | None = None
        self._is_abandoned = False

    def submit(self, job: LineJob) -> Future[Answers]:
        if self._is_abandoned:
            raise DeviceError("the predictions were given up")
        try:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self._processes, self._context, initializer=prepare_process)
            return self._pool.submit(answer, job)
        except OSError as error:  # their semaphores are files in /dev/shm
            raise UserInputError(
                f"the processes that predict cannot be started ({error.strerror}): expected /dev/shm to be a "
                "file system in memory that this user may write; mount one there, with `chmod 1777 /dev/shm`"
            ) from error

    def abandon(self) -> None:
        self._is_abandoned = True
        self._context.kill_started()

    def close(self) -> None:
        if self._pool is not None:
            with interrupt_deferred():
                self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None
