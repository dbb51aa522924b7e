"""Whether this user may read what is installed: what root installs under a strict umask, others may not."""

from __future__ import annotations

import os
import pwd
import stat
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..values.shell_words import shell_path

_CODE = (".py", ".so")
_OWN = Path(__file__).resolve().parents[2]


def find_unreadable(roots: Sequence[Path] | None = None) -> str | None:
    """A sentence about the first folder or file of code that this user may not read, None where all are read.

    Python takes such a folder for one that is empty: a package is then missing, or has no contents. To be
    asked where something could not be imported; it takes as long as looking through all that is installed.

    roots: None for this package, those installed beside it, and Python's own.
    """
    for root in _default_roots() if roots is None else roots:
        for path, right, change in _lacks(root):
            return (
                f"this user may not {right} {path} ({_rights(path)}): whoever owns it can allow that with "
                f"chmod {change}"
            )
    return None


def _default_roots() -> list[Path]:
    installed = sysconfig.get_paths()
    return [_OWN, *(Path(installed[kind]) for kind in ("purelib", "platlib", "stdlib"))]


def _lacks(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Paths above a folder, at it and below it, with the right that is lacking and how chmod gives it."""
    change = f"-R a+rX {shell_path(root)}"
    for above in reversed(root.parents):
        if os.path.exists(above) and not _may(above, os.X_OK):
            yield above, "enter", f"a+x {shell_path(above)}"
    if _is_kept_from(root):
        yield root, "read", change
    for name, folders, files in os.walk(root):
        folder = Path(name)
        folders[:] = [inner for inner in folders if not inner.startswith((".", "__pycache__"))]
        for path in (folder / part for part in (*files, *folders)):
            if _is_kept_from(path):
                yield path, "read", change


def _is_kept_from(path: Path) -> bool:
    if os.path.isdir(path):
        return not _may(path, os.R_OK | os.X_OK)
    is_code = path.suffix in _CODE or ".so." in path.name
    return is_code and os.path.exists(path) and not _may(path, os.R_OK)


def _may(path: Path, rights: int) -> bool:
    """By the rights with which files are opened, which a process may have changed since it began."""
    return os.access(path, rights, effective_ids=os.access in os.supports_effective_ids)


def _rights(path: Path) -> str:
    status = path.stat()
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:  # a container's user may have no name
        owner = str(status.st_uid)
    return f"{stat.filemode(status.st_mode)} of {owner}"
