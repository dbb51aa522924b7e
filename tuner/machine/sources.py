"""What of the program's own sources something depends on, as a digest."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path


@functools.cache
def sources_digest(rooms: tuple[str, ...]) -> str:
    """A digest of all Python sources in some of the package's folders, and of single files."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for room in rooms:
        place = root / room
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
