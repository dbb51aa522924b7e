"""A small study and the real commands on it, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FAKED = Path(__file__).with_name("faked.py")
STUDY = """\
name: tiny
rows: [{batch_size: 1}, {batch_size: 2}]
defaults:
  {model: nano, n_seq: 32, kernel_version: reference, gradient_checkpointing: false, mixed_precision: none}
timing: {warmup: 0, iterations: 2}
"""
SEARCH = ("--vram", "4GB", "--device", "cpu", "--study", "tiny.yaml")


def environment(**changed: str) -> dict[str, str]:
    """That of the tests, without what decides how Python writes its streams."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **changed}


def tune(*arguments: str) -> list[str]:
    """The command as it is installed."""
    return [sys.executable, "-m", "phase8_tune.tuner.cli", *arguments]


def faked(*arguments: str, worker: str = "--start=ok") -> list[str]:
    """The command with a worker that loads no torch."""
    return [sys.executable, str(FAKED), worker, *arguments]


def run(command: Sequence[str], folder: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """What became of a command in a folder; both streams are read unless `settings` say otherwise."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(), **settings}
    return subprocess.run(
        command, cwd=folder, encoding="utf-8", errors="surrogateescape", check=False, **settings
    )


def write_study(folder: Path) -> None:
    """The study of two rows, as `SEARCH` names it."""
    (folder / "tiny.yaml").write_text(STUDY, encoding="utf-8")
