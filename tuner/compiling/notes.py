"""What earlier runs compiled: for each request the entries of Triton's cache that it needs.

While they are all there, no process needs to be started to find that out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from ..machine.cache_folder import writable_cache_folder
from ..machine.sources import sources_digest
from ..predict.store import code_version
from ..values.atomic_write import write_atomically
from .jobs import Launches

_NAME = "compiled"
FORMAT = 1
"""Of a note: one of another format counts as not there."""


class Notes:
    """Notes about kernels for GPUs of one architecture (90 for 9.0).

    folder: where they lie, None for the user's cache folder. environment: what is added to that of compilers.
    """

    def __init__(self, folder: Path | None, *, architecture: int, environment: Mapping[str, str]) -> None:
        self._folder = writable_cache_folder(_NAME) if folder is None else folder / _NAME
        self._architecture = architecture
        settings = {name: value for name, value in os.environ.items() if name.startswith("TRITON_")}
        self._settings = sorted((settings | dict(environment)).items())

    def are_there(self, asked: Launches) -> bool:
        """Whether all that a request launches was compiled, and is still where it was put."""
        try:
            data = json.loads(self._path(asked).read_bytes())
            return data["format"] == FORMAT and all(map(os.path.exists, data["entries"]))
        except (OSError, ValueError, TypeError, KeyError):
            return False  # none yet, or a damaged file: asked again

    def write(self, asked: Launches, entries: Sequence[str]) -> None:
        """Note the entries of what a request launches."""
        text = json.dumps({"format": FORMAT, "entries": list(entries)})
        with contextlib.suppress(
            OSError
        ):  # who keeps predictions there says so; it costs the next run a look
            write_atomically(self._path(asked), text.encode())

    def _path(self, asked: Launches) -> Path:
        """Named after all that decides what is compiled, and where it is kept."""
        sources = code_version() + sources_digest(("tuner/compiling",))
        parts = [type(asked).__name__, asdict(asked), self._architecture, sources, version("triton")]
        text = json.dumps([*parts, self._settings], sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
