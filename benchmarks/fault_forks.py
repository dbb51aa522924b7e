"""Commands that run in forked children of this process, which has imported all they need: no start-up each.

A child has its own standard streams, its own process group, and ends as a Python process of its own would.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO

_IMPORTED = (
    *("phase8_tune.tuner.commands.measured_run", "phase8_tune.tuner.training.session"),
    *("phase8_tune.tuner.training.assembly", "phase8_tune.tuner.training.curve", "torch._dynamo"),
    *("matplotlib.figure", "matplotlib.ticker", "matplotlib.font_manager", "matplotlib.backends.backend_svg"),
)
_LOST_FLUSH = 120  # Python's exit code where standard output cannot be flushed at the end


class Stream(StrEnum):
    """What a standard stream leads to."""

    READ = "read"
    FULL = "full"
    CLOSED = "closed"
    ABANDONED = "abandoned"  # a pipe whose reader goes away when the child is abandoned


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a child ended, and what of its streams was read."""

    code: int
    output: str
    errors: str
    is_group_left: bool


class Child:
    """A running child; `ended` waits for it."""

    def __init__(self, pid: int, began: int, read: dict[int, int], abandoned: Sequence[int]) -> None:
        """read: the reading ends of its standard streams by their numbers; abandoned: of these, which may
        lose their reader."""
        self.pid, self._began, self._read, self._abandoned = pid, began, read, abandoned
        self._watched = os.pidfd_open(pid)

    def wait_began(self) -> None:
        """Until the command itself is called."""
        os.read(self._began, 1)

    def ends_within(self, seconds: float) -> bool:
        return bool(select.select([self._watched], [], [], seconds)[0])

    def send(self, number: signal.Signals) -> None:
        signal.pidfd_send_signal(self._watched, number)

    def abandon(self) -> None:
        """From now on nobody reads the streams that are to be abandoned."""
        for number in self._abandoned:
            os.close(self._read.pop(number))

    def ended(self) -> Ended:
        # What a child says in all fits into a pipe, so nobody need read while it runs.
        _, status = os.waitpid(self.pid, 0)
        is_left = False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
            is_left = True
        texts = [_read_all(self._read.get(number)) for number in (1, 2)]
        for descriptor in (self._began, self._watched):
            os.close(descriptor)
        code = os.waitstatus_to_exitcode(status)
        return Ended(code=code, output=texts[0], errors=texts[1], is_group_left=is_left)


def prepare_forks() -> None:
    """Import what the children need, with no thread started: of those only the forking one is in a child."""
    import torch

    torch.set_num_threads(1)
    for name in _IMPORTED:
        importlib.import_module(name)


def fork(
    main: Callable[[Sequence[str]], None],
    arguments: Sequence[str],
    folder: Path,
    *,
    stdout: Stream = Stream.READ,
    stderr: Stream = Stream.READ,
) -> Child:
    """Call a command in a child whose working directory and cache are the folder's."""
    began, output, errors = os.pipe(), os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside the tests' threads
        pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _live(main, arguments, folder, began[1], {1: (stdout, output), 2: (stderr, errors)})
        finally:
            os._exit(code)
    for pipe in (began, output, errors):
        os.close(pipe[1])
    abandoned = [n for n, kind in ((1, stdout), (2, stderr)) if kind is Stream.ABANDONED]
    return Child(pid, began[0], {1: output[0], 2: errors[0]}, abandoned)


def _live(
    main: Callable[[Sequence[str]], None],
    arguments: Sequence[str],
    folder: Path,
    began: int,
    streams: dict[int, tuple[Stream, tuple[int, int]]],
) -> int:
    """What the child does, from its fork to its exit code."""
    os.setpgid(0, 0)
    os.chdir(folder)
    os.environ["PHASE8_TUNE_CACHE"] = str(folder / "cache")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    sys.stdout, sys.stderr = (_opened(number, *streams[number]) for number in (1, 2))
    os.write(began, b".")
    os.close(began)
    code = _called(main, arguments)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        return code or _LOST_FLUSH
    return code


def _called(main: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    try:
        main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _opened(number: int, kind: Stream, pipe: tuple[int, int]) -> TextIO:
    """A standard stream as Python has it at its start; None where it is closed."""
    os.close(pipe[0])
    if kind is Stream.CLOSED:
        os.close(number)
        os.close(pipe[1])
        return None  # type: ignore[return-value]  # so does Python
    if kind is Stream.FULL:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, number)
        os.close(full)
    else:
        os.dup2(pipe[1], number)
    os.close(pipe[1])
    return open(number, "w", encoding="utf-8", closefd=False, buffering=1 if number == 2 else -1)


def _read_all(descriptor: int | None) -> str:
    if descriptor is None:
        return ""
    with open(descriptor, "rb") as file:
        return file.read().decode(errors="replace")
