"""One worker as the driver sees it: a process group, a pipe each way, and a log of its standard error."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .protocol import MAX_LINE_BYTES, ProtocolError, Reply, Request, decode_reply, encode

EXIT_GRACE_S = 5.0  # between the end of a worker's pipe and the end of its process
_TAIL_BYTES = 8192


class WorkerGoneError(Exception):
    """The worker's pipe ended; `returncode` is as subprocess gives it, None where the process still runs."""

    def __init__(self, returncode: int | None) -> None:
        super().__init__(f"the worker's pipe ended (return code {returncode})")
        self.returncode = returncode


class WorkerProcess:
    """Starts `command` as the leader of its own session, so that a terminal's Ctrl-C does not reach it and so
    that it can be killed with everything it started.

    To be started from a thread that lives at least as long: Linux ends the worker with that thread.

    Raises: OSError where the log cannot be written or the command not be started.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log_path: Path) -> None:
        self._log_path = log_path
        with log_path.open("ab") as log:
            self._log_offset = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
                bufsize=0,
            )
        assert self._process.stdin is not None  # asked for just above
        assert self._process.stdout is not None
        self._requests_fd = self._process.stdin.fileno()
        self._replies_fd = self._process.stdout.fileno()
        self._pending = bytearray()
        self._is_ended = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_idle(self) -> bool:
        """Whether the process runs and its pipe has nothing unread, as after a finished request."""
        if self._process.poll() is not None or self._pending:
            return False
        return not select.select([self._replies_fd], [], [], 0)[0]

    def send(self, message: Request) -> None:
        """Raises: WorkerGoneError."""
        try:
            os.write(self._requests_fd, encode(message))  # smaller than a pipe's buffer, so it never blocks
        except BrokenPipeError as error:
            raise WorkerGoneError(self._await_exit()) from error

    def receive(self, timeout_s: float) -> Reply | None:
        """The next reply, None if no whole line came in time.

        Raises: WorkerGoneError at the pipe's end; ProtocolError for a line that is not a reply or too long.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            end = self._pending.find(b"\n")
            if end >= 0:
                line = bytes(self._pending[:end])
                del self._pending[: end + 1]
                return decode_reply(line)
            if len(self._pending) > MAX_LINE_BYTES:
                begin = bytes(self._pending[:40]).decode(errors="replace")
                raise ProtocolError(f"expected a reply of at most {MAX_LINE_BYTES} bytes, got {begin!r}…")
            remaining_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._replies_fd], [], [], remaining_s)[0]:
                return None
            chunk = os.read(self._replies_fd, 1 << 16)
            if not chunk:
                raise WorkerGoneError(self._await_exit())
            self._pending += chunk

    def last_line(self) -> str:
        """The last line that the worker wrote to its standard error, empty if none."""
        with contextlib.suppress(OSError), self._log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_offset, size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    def kill(self) -> None:
        """End the worker and all it started, at once; may be called more than once."""
        if self._is_ended:
            return
        self._is_ended = True
        # The group may outlive its leader (a compiler, say); its number stays taken while it has members.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _await_exit(self) -> int | None:
        """The return code, or None where the process outlives its pipe by more than the grace."""
        try:
            return self._process.wait(timeout=EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            return None
