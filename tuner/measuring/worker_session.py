"""A worker that has its device: started, asked one thing at a time, and given up at the first fault."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from ..machine.cache_folder import compiler_caches
from ..values.candidate import Candidate
from ..values.measurement import Measurement
from ..values.outcome import Outcome
from .failures import classify_exit
from .memory import DRIFT_BYTES
from .protocol import (
    Checked,
    CheckRequest,
    Failed,
    MeasureRequest,
    Progress,
    ProtocolError,
    Ready,
    Reply,
    Result,
    StartRequest,
)
from .worker_process import WorkerGoneError, WorkerProcess

POLL_S = 0.02  # how often a wait for the worker looks at its memory and for a call to stop


class AttemptFailedError(Exception):
    """The worker gave no usable answer; `measurement` says why, as data."""

    def __init__(self, outcome: Outcome, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.measurement = Measurement(outcome=outcome, message=message, **fields)


def unchecked(candidate: Candidate, outcome: Outcome, message: str) -> AttemptFailedError:
    """Where a kernel version's check did not come to its end. Memory that it lacked says nothing of what the
    candidate itself needs, and must not rule out larger batches."""
    outcome = Outcome.ERROR if outcome.is_memory else outcome
    return AttemptFailedError(outcome, f"in the correctness check of {candidate.version}: {message}")


class LiveWorker:
    """A started worker, what it said of itself, and what it holds of the card while idle.

    `on_silence` is called with the worker's pid every `POLL_S` until it is ready, and may raise.

    Raises: AttemptFailedError where it does not get ready; nothing is left running then.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        device: Literal["cuda", "cpu"],
        gpu_uuid: str | None,
        log_path: Path,
        start_timeout_s: float,
        on_silence: Callable[[int], None],
    ) -> None:
        # Threads that wait sleep instead of spinning: on a computer with something else to do, spinning made
        # a step of small on two cores take 6-35 s instead of 2-3 s.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        if device == "cuda":
            environment |= compiler_caches()
        if gpu_uuid is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu_uuid
        try:
            self.process = WorkerProcess(command, environment=environment, log_path=log_path)
        except OSError as error:
            raise AttemptFailedError(Outcome.ERROR, f"the worker cannot be started: {error}") from error
        try:
            self.ready = self._await_ready(device, start_timeout_s, on_silence)
        except BaseException:
            self.process.kill()
            raise
        self.footprint_bytes = self.ready.context_bytes or 0
        self.is_outdated = False  # its footprint is in doubt
        self._attempts = 0

    def check(self, request: CheckRequest, *, timeout_s: float, on_silence: Callable[[int], None]) -> Checked:
        """The answer to a request to check; as `measure`.

        Raises: AttemptFailedError; the worker must then be killed.
        """
        answer = self._ask(request, timeout_s, lambda progress: None, on_silence)
        if not isinstance(answer, Checked):
            raise AttemptFailedError(
                Outcome.ERROR, f"expected a check's answer from the worker, got {answer.type!r}"
            )
        return answer

    def measure(
        self,
        request: MeasureRequest,
        *,
        timeout_s: float,
        on_progress: Callable[[Progress], None],
        on_silence: Callable[[int], None],
    ) -> Result:
        """The answer to a request to measure. `on_silence` is called with the worker's pid every `POLL_S`.

        Raises: AttemptFailedError; the worker must then be killed.
        """
        answer = self._ask(request, timeout_s, on_progress, on_silence)
        if not isinstance(answer, Result):
            raise AttemptFailedError(Outcome.ERROR, f"expected a result from the worker, got {answer.type!r}")
        return answer

    def _ask(
        self,
        request: CheckRequest | MeasureRequest,
        timeout_s: float,
        on_progress: Callable[[Progress], None],
        on_silence: Callable[[int], None],
    ) -> Checked | Result:
        deadline_s = time.monotonic() + timeout_s
        try:
            self.process.send(request)
            while True:
                reply = self._await_reply(deadline_s, on_silence)
                if reply is None:
                    raise AttemptFailedError(
                        Outcome.TIMEOUT, f"no answer within {timeout_s:g} s; the worker was stopped"
                    )
                if not isinstance(reply, Progress | Checked | Result):
                    raise AttemptFailedError(
                        Outcome.ERROR, f"expected an answer from the worker, got {reply.type!r}"
                    )
                if reply.id != request.id:
                    raise AttemptFailedError(
                        Outcome.ERROR, f"the worker answered request {reply.id} instead of {request.id}"
                    )
                if not isinstance(reply, Progress):
                    return reply
                on_progress(reply)
        except (WorkerGoneError, ProtocolError) as error:
            raise self._no_answer(error) from error

    def note_residue(self, residue_bytes: int) -> None:
        """After an attempt: what stays in use on the card that was not before it.

        A first attempt loads cuBLAS and kernels for good. Later growth may as well be another program's,
        where NVML does not tell; a new worker measures its own context anew and carries no doubt along.
        """
        self._attempts += 1
        self.footprint_bytes += residue_bytes
        self.is_outdated = self._attempts > 1 and residue_bytes > DRIFT_BYTES

    def _await_reply(self, deadline_s: float, on_silence: Callable[[int], None]) -> Reply | None:
        """The next reply, None where none comes by the deadline on the monotonic clock."""
        while (remaining_s := deadline_s - time.monotonic()) > 0:
            reply = self.process.receive(min(POLL_S, remaining_s))
            if reply is not None:
                return reply
            on_silence(self.process.pid)
        return None

    def _await_ready(
        self, device: Literal["cuda", "cpu"], timeout_s: float, on_silence: Callable[[int], None]
    ) -> Ready:
        try:
            self.process.send(StartRequest(device=device))
            reply = self._await_reply(time.monotonic() + timeout_s, on_silence)
        except (WorkerGoneError, ProtocolError) as error:
            raise self._no_answer(error) from error
        if reply is None:
            raise AttemptFailedError(Outcome.TIMEOUT, f"the worker did not get ready in {timeout_s:g} s")
        if isinstance(reply, Failed):
            raise AttemptFailedError(Outcome.ERROR, f"the worker cannot use its device: {reply.message}")
        if not isinstance(reply, Ready):
            raise AttemptFailedError(
                Outcome.ERROR, f"expected the worker to say it is ready, got {reply.type!r}"
            )
        return reply

    def _no_answer(self, error: WorkerGoneError | ProtocolError) -> AttemptFailedError:
        if isinstance(error, ProtocolError):
            return AttemptFailedError(Outcome.ERROR, f"the worker broke the protocol: {error}")
        outcome, message = classify_exit(error.returncode, self.process.last_line())
        return AttemptFailedError(outcome, message)
