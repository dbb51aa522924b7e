"""Files that are there whole or not at all: the one way in which this project replaces a file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """A draft to write that takes the place of `path` when the block ends well, once it is on the disk.

    A reader sees the old content or the new, never half of it. Where the block or the disk fails nothing is
    left behind; a folder that is missing is made.
    Raises: OSError where the folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    draft = Path(name)
    try:
        yield draft
        os.fsync(handle)
        draft.chmod(0o666 & ~_umask())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step; a text is written as UTF-8, what in it is a path's as its bytes are.

    Raises: OSError where the folder cannot be written or the disk is full.
    """
    with replaced_whole(path) as draft:
        # surrogateescape: how Python holds the bytes of an argument that are no text in the locale.
        data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        draft.write_bytes(data)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
