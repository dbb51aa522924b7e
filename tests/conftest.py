"""Chosen before any test module is imported: without a GPU, Triton kernels run under Triton's interpreter."""

from __future__ import annotations

import os
from pathlib import Path

# One thread a test process: pytest runs two side by side, and spinning OpenMP teams slow each other tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

from phase8_tune.benchmarks.fault_processes import ignore_signals_alone
from phase8_tune.tuner.machine import devices
from phase8_tune.tuner.measuring import kernel_verdicts

# How long an example takes says something about the machine, not about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Triton reads the variable when a kernel is decorated, for its own library when it is imported: so here, at
# the root, not in the kernels' folder, which pytest may collect after a folder that already imports triton.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

ignore_signals_alone()

_TESTS = Path(__file__).parent
# Folders and files whose tests start workers, trace steps or run kernels under the interpreter: `make quick`
# leaves them out, `make test` does not.
_SLOW = (
    "benchmarks/",
    "cluster/test_cluster",
    "cluster/test_faults",
    "cluster/test_loopback",
    "faults/",
    "formats/",
    "gpu/",
    "kernels/",
    "phase8/test_decoding",
    "phase8/test_model",
    "phase8/test_sampling",
    "predict/",
    "training/",
    "house/test_rooms",
    "house/test_public_names",
    "workloads/test_own_study",
    "workloads/test_workload_command",
    *(
        f"tuner/test_{name}"
        for name in (
            *("cli", "doctor", "foresight", "kernel_check", "launcher", "planning", "resume", "search"),
            *("library_tune", "several_gpus", "storage", "terminal_live", "worker"),
        )
    ),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        place = item.path.relative_to(_TESTS).as_posix()
        if place.startswith(_SLOW):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def nothing_kept_of_fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Checks that a fake worker passes, and cards that a fake probe finds, are kept for one test only."""
    for module in (kernel_verdicts, devices):
        monkeypatch.setattr(module, "writable_cache_folder", lambda name: tmp_path / ".kept" / name)
