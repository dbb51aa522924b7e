"""Disks that are full: a small file system in memory where it may be mounted, else a limit of every file."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

BALLAST = "ballast"


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[bool]:
    """A disk of that size at the folder while the block runs; False, and none, where nothing may be mounted.

    It is mounted over the folder, so what the folder held before is hidden until then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={size_bytes}", "phase8-tune-faults", str(folder)]
    try:
        is_there = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_there = False
    try:
        yield is_there
    finally:
        if is_there:
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)


def fill(folder: Path, room_bytes: int) -> None:
    """Leave so much room, in whole pages of 4 KiB, by a file that takes the rest."""
    statistics = os.statvfs(folder)
    taken = statistics.f_bavail * statistics.f_frsize - room_bytes
    if taken <= 0:
        return
    with (folder / BALLAST).open("ab") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END) + taken)


def make_room(folder: Path) -> None:
    """Take the file away again that fills the disk."""
    (folder / BALLAST).unlink(missing_ok=True)


def limit_files(pid: int, size_bytes: int) -> None:
    """From now on a running process can make no file larger than that: its writes fail as on a full disk."""
    with contextlib.suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


FULL = frozenset({os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG)})
"""What a line about a full disk says."""
