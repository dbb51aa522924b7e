"""What a training says of itself for programs: one JSON object a line, and TensorBoard's event files."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from ..values.atomic_write import write_atomically
from ..values.errors import UserInputError


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, in order; a last one that was torn is left out, a missing file has
    none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


class MetricsLog:
    """Appends to `metrics.jsonl`. A metric that cannot be written costs no training: `problem` then says why.

    first_step: lines of this step and later ones are of a part that was not kept, and are removed.
    tensorboard: a folder for event files, where the extra is installed.
    """

    def __init__(self, path: Path, *, first_step: int, tensorboard: Path | None = None) -> None:
        """Raises: UserInputError where tensorboard is asked for and not installed."""
        self._path = path
        self.problem: str | None = None
        self._events = _open_events(tensorboard)
        kept = [line for line in read_metrics(path) if line["step"] <= first_step] if first_step else []
        self._guarded(lambda: write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept)))

    def add(self, step: int, **values: float) -> None:
        """Note values of a step, by name, with their units in the names."""
        self._guarded(lambda: self._append({"step": step, **values}))
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        if self._events is not None:
            self._events.close()

    def _append(self, line: dict[str, float]) -> None:
        with self._path.open("ab", buffering=0) as file:
            size_bytes, text = file.tell(), json.dumps(line).encode() + b"\n"
            if file.write(text) < len(text):  # the next line shall not go on with half of this one
                file.truncate(size_bytes)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _guarded(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            self.problem = f"{self._path}: cannot be written ({error.strerror}); training goes on without"


def _open_events(folder: Path | None) -> Any:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserInputError(
            "--tensorboard: expected the package tensorboard, which is not installed; "
            "pip install 'phase8-tune[tensorboard]', or leave --tensorboard out"
        ) from None
    return SummaryWriter(str(folder))
