"""Files that measure the card need it for themselves: they wait for the others, in whatever process."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_ALONE = frozenset({"test_measuring", "test_doctor", "test_faults", "test_several_gpus"})


@pytest.fixture(scope="module", autouse=True)
def share_of_the_card(request: pytest.FixtureRequest) -> Iterator[None]:
    """All of the card for a file in _ALONE, a share of it for any other, until the file's tests are done."""
    alone = request.module.__name__.rpartition(".")[2] in _ALONE
    with (Path(tempfile.gettempdir()) / "phase8_tune_gpu_tests.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
