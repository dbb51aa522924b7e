"""What of a workload's code its step follows from, as a digest: for what is kept of it beyond a run."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..machine.sources import sources_digest
from .loading import is_own, place_of_name

_OURS = ("tuner/builtin", "tuner/workloads", "phase8/config.py")
_LIBRARIES = ("transformers", "peft", "liger-kernel", "torchvision", "timm")
"""Whose code a step may run, beside torch's."""


@functools.cache
def workload_sources(name: str) -> str:
    """Of one that comes with it, its rooms; of a user's own, its file, and the Python files and packages
    beside it, which it may import.

    Nothing is imported but the packages above a module.
    """
    digest = hashlib.sha256(sources_digest(_OURS).encode())
    for library in _LIBRARIES:
        try:
            digest.update(f"{library} {version(library)}".encode())
        except PackageNotFoundError:
            continue
    for path in _own_files(name) if is_own(name) else ():
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _own_files(name: str) -> list[Path]:
    place = place_of_name(name)
    if place.endswith(".py"):
        folder = Path(place).resolve().parent
    else:
        try:
            spec = importlib.util.find_spec(place)
        except (ImportError, ValueError):
            return []
        if spec is None or spec.origin is None:
            return []
        folder = Path(spec.origin).parent
    packages = (init.parent for init in folder.glob("*/__init__.py"))
    return sorted({*folder.glob("*.py"), *(path for package in packages for path in package.rglob("*.py"))})
