"""The faults that only a real GPU has, a few times each; `benchmarks/faults.py --gpu` has the full counts."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
import torch

from phase8_tune.benchmarks.fault_cases import Bench
from phase8_tune.benchmarks.fault_harness import FAKES
from phase8_tune.benchmarks.fault_processes import MARK
from phase8_tune.benchmarks.faults import Counts, gpu_cases

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.xdist_group("measuring"),
]

FEW = Counts(worker_kills=5, out_of_memory=10, hangs=1)


@pytest.mark.parametrize("name", gpu_cases(Bench(folder=Path(), device="cuda", seed=0), FEW))
def test_a_fault_leaves_no_trace(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, uuid.uuid4().hex)
    monkeypatch.setenv("PYTHONPATH", str(FAKES), prepend=os.pathsep)
    for tally in gpu_cases(Bench(folder=tmp_path, device="cuda", seed=0), FEW)[name]():
        assert tally.is_clean, tally
        assert tally.injected >= 1
