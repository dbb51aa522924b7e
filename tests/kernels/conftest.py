"""Fixtures of the kernel tests: the device, and one thread."""

from __future__ import annotations

from collections.abc import Iterator

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
