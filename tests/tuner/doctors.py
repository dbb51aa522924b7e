"""A computer with a GPU as the doctor's tests need it: children, NVML and the worker are stand-ins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from phase8_tune.tuner.doctor import gather, machine
from phase8_tune.tuner.doctor.answers import SegmentsAnswer, TorchAnswer, TritonAnswer
from phase8_tune.tuner.doctor.children import Children, Reply, ask_child
from phase8_tune.tuner.doctor.facts import Facts, RunsFolder, WslFacts
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import Border, DeviceInfo

from ..fakes.nvml import MIB, FakeNvml
from .processes import child_pids

A = TypeVar("A", bound=Border)
FAKES = Path(__file__).parents[1] / "fakes"
CARD = DeviceInfo(
    kind="cuda",
    name="fake card",
    total_bytes=16 << 30,
    uuid="GPU-fake",
    compute_capability="8.6",
    shared_memory_per_block_bytes=101_376,
)
TORCH = TorchAnswer(
    torch="2.13.0", cuda="13.0", device=CARD, free_bytes=15 << 30, fitted_shared_memory_bytes=101_376
)
TRITON = TritonAnswer(triton="3.7.1", first_call_s=1.25, is_right=True)
SEGMENTS = SegmentsAnswer(is_expandable=True)
NO_WSL = WslFacts(is_wsl=False, has_gpu_device=False, has_driver_library=False)


def make_plain(patch: pytest.MonkeyPatch) -> None:
    """What this computer is must not show in the findings."""
    folder = RunsFolder(path="runs", free_bytes=1 << 40, is_writable=True)
    patch.setattr(machine, "wsl_facts", lambda: NO_WSL)
    patch.setattr(machine, "in_container", lambda: False)
    patch.setattr(gather, "power_source", lambda: "ac")
    patch.setattr(machine, "runs_folder", lambda path: folder)
    patch.setattr(machine, "out_of_range", lambda python: ())
    patch.setattr(gather, "installed_version", lambda name: "3.7.1")
    patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


class NamesProcesses(FakeNvml):
    """Tells the memory of every child of this process, as NVML does on a computer of its own."""

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> Any:
        return [SimpleNamespace(pid=pid, usedGpuMemory=900 * MIB) for pid in child_pids()]


def says(answer: Border) -> tuple[str, str]:
    return ("says", answer.model_dump_json())


class FakeChildren(Children):
    """Real processes that answer as told, at once or not at all."""

    def __init__(
        self,
        torch: Sequence[str] = says(TORCH),
        triton: Sequence[str] = says(TRITON),
        segments: Sequence[str] = says(SEGMENTS),
    ) -> None:
        super().__init__()
        self.torch, self.triton, self.segments = torch, triton, segments

    def ask_torch(self) -> Reply[TorchAnswer]:
        return ask(self.torch, TorchAnswer)

    def ask_triton(self) -> Reply[TritonAnswer]:
        return ask(self.triton, TritonAnswer)

    def ask_segments(self) -> Reply[SegmentsAnswer]:
        return ask(self.segments, SegmentsAnswer)


def ask(how: Sequence[str], expected: type[A]) -> Reply[A]:
    command = (sys.executable, str(FAKES / "doctor_child.py"), *how)
    return ask_child(command, expected, timeout_s=0.3 if how[0] == "hangs" else 60.0)


def find_facts(
    runs_dir: Path, *, model: str = "ok", start: str = "ok", nvml: FakeNvml | None = None, **children: Any
) -> Facts:
    """Facts of the fake computer; `model` and `start` tell the fake worker how to behave."""
    return gather.gather_facts(
        runs_dir=runs_dir,
        children=FakeChildren(**children),
        nvml_library=nvml or FakeNvml(),
        worker_command=(
            sys.executable, str(FAKES / "worker.py"), "--device=cuda", f"--start={start}"
        ),
        candidate=Candidate(
            model=model,
            n_seq=8,
            batch_size=1,
            kernel_version="reference",
            gradient_checkpointing=False,
            mixed_precision="none",
        ),
    )  # fmt: skip
