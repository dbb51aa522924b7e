"""A command on a terminal of a size, and what its screen shows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte

from ..faults.commands import environment

ROWS = 40


class Terminal:
    """Starts a command whose three streams are the terminal; a context, which ends it.

    raw: all that came so far.
    """

    def __init__(self, command: Sequence[str], folder: Path, *, columns: int, **changed: str) -> None:
        self._ours, theirs = pty.openpty()
        self.raw = b""
        self.resize(columns)
        settings = environment(**{"TERM": "xterm-256color", **changed})
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            if name not in changed:
                settings.pop(name, None)
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=settings,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C is its own
        )
        os.close(theirs)

    def resize(self, columns: int) -> None:
        """Another width, and an empty screen."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        self._screen = pyte.Screen(columns, ROWS)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def lines(self) -> list[str]:
        """The rows of the screen that have something on them."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def is_cursor_hidden(self) -> bool:
        return self._screen.cursor.hidden

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def until(self, is_there: Callable[[str], bool]) -> None:
        """Read until the screen shows it; AssertionError where the command ends before."""
        while not is_there(self.text):
            assert self._read(), f"the command ended, and its screen shows:\n{self.text}"

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self._process.wait()

    def _read(self) -> bool:
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # EIO: the command has ended
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        os.close(self._ours)
