"""Paths in commands that are shown, so that they can be pasted into a shell."""

from __future__ import annotations

import os
import shlex


def shell_path(path: os.PathLike[str] | str) -> str:
    """A path as one word of a shell's command that no command takes for an option: `'runs/a b'`, `./-x`."""
    text = os.fspath(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
