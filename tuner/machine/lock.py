"""A lock that a process holds: a file that names it, and that the system lets go of when it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class LockedError(Exception):
    """Another process holds the lock; owner: its number, or "unknown"."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"held by process {owner}")
        self.owner = owner


class ProcessLock:
    """Held from the call of `take` until `close`, or the end of the process, however it ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    @classmethod
    def take(cls, path: Path) -> ProcessLock:
        """Take the lock of that file, which is made where it is missing.

        Raises: LockedError where another process holds it; OSError where the file cannot be opened.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_file_at(
                    path, descriptor
                ):  # or it was removed by who held it, after it was opened here
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                    return cls(path, descriptor)
            except BlockingIOError:
                owner = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip() or "unknown"
                os.close(descriptor)
                raise LockedError(owner) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def close(self, *, remove: bool = False) -> None:
        """Let go of the lock, and of its file with `remove`; may be called more than once."""
        if self._descriptor < 0:
            return
        if remove:
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1


def _is_file_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
