"""Files that are there whole or not at all: the one way in which this project replaces a file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replaced_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well, after it is on the disk.

    A reader sees the old content or the new, never half of it. Where the block or the disk fails nothing is
    left behind; a folder that is missing is made.
    Raises: OSError where the folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o666 & ~_umask())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step; a text is written as UTF-8.

    Raises: OSError where the folder cannot be written or the disk is full.
    """
    with replaced_whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
