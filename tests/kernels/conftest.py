"""Fixtures of the kernel tests: the device, and one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def single_thread() -> Iterator[None]:
    """The shapes are tiny: a second thread costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def device() -> torch.device:
    """The GPU where there is one, else the CPU under Triton's interpreter (set in tests/conftest.py)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def compiled() -> Callable[[str], list[dict[str, Any]]]:
    """Runs a program of this folder that compiles kernels for GPUs that need not be there.

    It prints one JSON line a configuration; every kernel's blocks must fit the shared memory of its GPU.
    """

    def run(program: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name(program))],
            env=os.environ | {"TRITON_INTERPRET": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        for line in lines:
            for kernel, taken_bytes in line["shared_bytes"].items():
                assert taken_bytes <= line["limit_bytes"], (kernel, line)
        return lines

    return run
