"""Where the files of a training lie: all beside its output."""

from __future__ import annotations

from glob import escape
from pathlib import Path


def resume_path(output: Path) -> Path:
    """All that going on needs, of a training whose weights are written to `output`."""
    return output.with_name(f"{output.stem}.resume.safetensors")


def best_path(output: Path) -> Path:
    """The weights with the lowest held-out loss."""
    return output.with_name(f"{output.stem}.best.safetensors")


def metrics_path(output: Path) -> Path:
    """What the training said of itself, a line each time."""
    return output.with_name(f"{output.stem}.metrics.jsonl")


def lock_path(output: Path) -> Path:
    """Held by the training that writes there."""
    return output.with_name(f".{output.name}.lock")


def curve_path(output: Path) -> Path:
    """The drawing of the losses."""
    return output.with_suffix(".svg")


def drafts(output: Path) -> list[Path]:
    """What a training that was killed in the middle of a write left of its files."""
    files = (output, resume_path(output), best_path(output), metrics_path(output), curve_path(output))
    return [draft for path in files for draft in path.parent.glob(f".{escape(path.name)}.*.tmp")]
