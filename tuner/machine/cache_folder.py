"""Where what can be made again is kept between runs; a folder that cannot be written costs only that."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path

_NOBODYS_HOME = Path("/nonexistent")  # that of Debian's users without one


def cache_folder() -> Path:
    """Of predictions and calibrations: PHASE8_TUNE_CACHE, or phase8-tune in the user's cache."""
    named = os.environ.get("PHASE8_TUNE_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else home() / ".cache") / "phase8-tune"


def home() -> Path:
    """The user's home; one that is not there for a user who has none, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        return _NOBODYS_HOME


def writable_cache_folder(name: str) -> Path:
    """A folder of that name in `cache_folder`; where it cannot be written, which is said once, one that goes
    when this process ends."""
    return _writable(cache_folder() / name)


@functools.cache
def _writable(folder: Path) -> Path:
    try:
        try_folder(folder)
        return folder
    except OSError as error:
        warn_not_kept(folder, error)
    try:
        instead = tempfile.mkdtemp(prefix="phase8-tune-")
    except OSError:  # not even there: then nothing is kept at all
        return folder
    atexit.register(shutil.rmtree, instead, ignore_errors=True)
    return Path(instead)


def compiler_caches() -> dict[str, str]:
    """What to add to the environment so that Triton can keep its kernels: nothing where its folder will do.

    Triton compiles nothing where it cannot write: a home that is not there, one that root has written to.
    """
    if os.environ.get("TRITON_CACHE_DIR"):
        return {}
    base = os.environ.get("TRITON_HOME")
    try:
        try_folder((Path(base) if base else home()) / ".triton" / "cache")
    except OSError:
        return {"TRITON_CACHE_DIR": str(writable_cache_folder("triton"))}
    return {}


def try_folder(folder: Path) -> None:
    """Make a folder where it is missing, and a file in it for a moment.

    Raises: OSError where that is not possible.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Asked in earnest: what the rights say is not true of read-only disks, nor of root.
    with tempfile.TemporaryFile(dir=folder):
        pass


def warn_not_kept(folder: Path, error: OSError) -> None:
    """Say on standard error that the next run has to make again what this one makes."""
    print(
        f"phase8-tune: warning: {folder}: nothing can be kept there for the next run ({error.strerror}); "
        "make it writable, or name another folder with PHASE8_TUNE_CACHE",
        file=sys.stderr,
        flush=True,
    )
