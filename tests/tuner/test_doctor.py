"""The doctor's facts on a computer whose children, NVML and worker are stand-ins that misbehave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phase8_tune.tuner.doctor import gather, machine
from phase8_tune.tuner.doctor.diagnosis import diagnose, render
from phase8_tune.tuner.doctor.facts import Facts, Kind
from phase8_tune.tuner.doctor.rules import judge
from phase8_tune.tuner.values.errors import UserInputError

from ..fakes.nvml import MIB, FakeNvml
from .doctors import SEGMENTS, TORCH, TRITON, FakeChildren, NamesProcesses, find_facts, make_plain, says
from .processes import child_pids

NO_CARD: dict[str, Any] = {"device": None, "free_bytes": None}
NO_MEMORY = {"nvmlDeviceGetMemoryInfo"}
CPU_BUILD = {"cuda": None, "reason": "a build without CUDA"}


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    make_plain(monkeypatch)


def kinds(facts: Facts) -> list[Kind]:
    return [finding.kind for finding in judge(facts)]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (("hangs",), "no answer within"),
        (("signal", "SIGSEGV"), "SIGSEGV"),
        (("signal", "SIGKILL"), "SIGKILL"),
        (("exits", "ImportError: libcudnn.so.9"), "libcudnn.so.9"),
        (("says", "not json"), "not json"),
        (("says", '{"surprise": 1}'), "surprise"),
        (("says", '{"error": "ModuleNotFoundError: No module named \'torch\'"}'), "No module named"),
    ],
)
def test_a_torch_that_does_not_answer_is_a_finding(tmp_path: Path, how: tuple[str, ...], said: str) -> None:
    facts = find_facts(tmp_path, torch=how)
    found = diagnose(facts)
    assert [finding.kind for finding in found.findings] == [Kind.TORCH_FAILED]
    assert said in found.findings[0].what
    assert (found.exit_code, found.measuring_on) == (4, None)
    assert "Nothing can be measured" in render(found)


@pytest.mark.parametrize(
    ("how", "said", "todo"),
    [
        (("hangs",), "no answer within", "--json"),
        (("signal", "SIGSEGV"), "SIGSEGV", "--json"),
        (("exits", "RuntimeError: Failed to find C compiler."), "C compiler", "apt install gcc"),
        (("exits", "fatal error: Python.h: No such file"), "Python.h", "python3-dev"),
        (("says", '{"error": "AssertionError: libcuda.so cannot found!"}'), "libcuda.so", "linker"),
        (says(TRITON.model_copy(update={"is_right": False})), "sum is wrong", "reference"),
    ],
)
def test_a_triton_that_fails_leaves_the_reference(
    tmp_path: Path, how: tuple[str, ...], said: str, todo: str
) -> None:
    facts = find_facts(tmp_path, nvml=NamesProcesses(), triton=how)
    (finding,) = judge(facts)
    assert finding.kind is Kind.TRITON_FAILED
    assert said in finding.what
    assert todo in finding.todo
    assert [kernel.can_run for kernel in facts.kernels] == ["yes", "no", "no", "no"]
    assert diagnose(facts).exit_code == 0  # training runs, with the reference


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (("hangs",), "no answer within"),
        (says(SEGMENTS.model_copy(update={"is_expandable": False, "warning": "not here"})), "not here"),
    ],
)
def test_segments(tmp_path: Path, how: tuple[str, ...], said: str) -> None:
    (finding,) = judge(find_facts(tmp_path, nvml=NamesProcesses(), segments=how))
    assert (finding.kind, finding.severity) == (Kind.SEGMENTS_UNSUPPORTED, "note")
    assert said in finding.what


@pytest.mark.parametrize(
    ("nvml", "source", "kind"),
    [
        (NamesProcesses(), "nvml process used", None),
        (FakeNvml(), "nvml device used", Kind.MEMORY_OF_WHOLE_CARD),
        (FakeNvml(refused=NO_MEMORY), "torch reserved peak + context", Kind.MEMORY_SOURCE_WEAK),
    ],
)  # fmt: skip
def test_the_memory_source_is_the_monitors_own(
    tmp_path: Path, nvml: FakeNvml, source: str, kind: Kind | None
) -> None:
    facts = find_facts(tmp_path, nvml=nvml)
    assert source in str(facts.memory_source)
    assert kinds(facts) == ([] if kind is None else [kind])


def test_without_nvml(tmp_path: Path) -> None:
    facts = find_facts(tmp_path, nvml=FakeNvml(refused={"nvmlInit"}))
    assert kinds(facts) == [Kind.NVML_MISSING, Kind.MEMORY_SOURCE_WEAK]
    assert diagnose(facts).exit_code == 0


@pytest.mark.parametrize(
    ("how", "severity", "exit_code", "said"),
    [
        ({"model": "oom"}, "error", 4, "ended with oom: CUDA out of memory"),
        ({"model": "signal:SIGSEGV"}, "error", 4, "SIGSEGV"),
        ({"start": "failed"}, "error", 4, "no card"),
        ({"start": "exit"}, "error", 4, "ImportError: no torch"),
    ],
)
def test_a_worker_that_cannot_train(
    tmp_path: Path, how: dict[str, str], severity: str, exit_code: int, said: str
) -> None:
    facts = find_facts(tmp_path, nvml=NamesProcesses(), **how)
    finding = judge(facts)[0]
    assert (finding.kind, finding.severity) == (Kind.TRIAL_FAILED, severity)
    assert said in finding.what
    assert diagnose(facts).exit_code == exit_code
    assert "does not work" in render(diagnose(facts))


def test_a_card_that_computes_wrongly_is_not_measured(tmp_path: Path) -> None:
    told = TORCH.model_copy(update={"failure": "AcceleratorError: no kernel image is available"})
    facts = find_facts(tmp_path, torch=says(told))
    assert facts.trial is None
    assert kinds(facts) == [Kind.GPU_UNUSABLE]
    assert diagnose(facts).exit_code == 4


@pytest.mark.parametrize(
    ("told", "visible", "cards", "kind", "todo"),
    [
        (CPU_BUILD, None, True, Kind.TORCH_WITHOUT_CUDA, "CUDA build"),
        (CPU_BUILD, None, False, Kind.TORCH_WITHOUT_CUDA, "CUDA build"),
        ({"reason": "the driver is too old"}, None, True, Kind.NO_GPU, "update the NVIDIA driver"),
        ({"reason": "No CUDA GPUs are available"}, "", True, Kind.GPU_HIDDEN, "CUDA_VISIBLE_DEVICES"),
        ({"reason": "Found no NVIDIA driver"}, None, False, Kind.NO_GPU, "nvidia-smi"),
    ],
)  # fmt: skip
def test_no_gpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: dict[str, Any],
    visible: str | None,
    cards: bool,
    kind: Kind,
    todo: str,
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nvml = FakeNvml() if cards else FakeNvml(refused={"nvmlInit"})
    facts = find_facts(tmp_path, nvml=nvml, torch=says(TORCH.model_copy(update=NO_CARD | told)))
    found = diagnose(facts)
    assert [finding.kind for finding in found.findings] == [kind]
    assert todo in found.findings[0].todo
    assert "--device cpu" in found.findings[0].todo
    assert ("fake card" in found.findings[0].what) is cards
    assert (found.exit_code, found.measuring_on) == (4, "cpu")
    assert found.environment["Device"] == "cpu"
    assert "--device cpu measures on the CPU" in render(found).splitlines()[-1]
    assert [kernel.can_run for kernel in facts.kernels] == ["yes", "no", "no", "no"]


def test_who_holds_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "process_name", lambda pid: {300: "Xorg"}.get(pid))
    nvml = FakeNvml(used=5000 * MIB, processes={200: 4000 * MIB}, graphics={300: 700 * MIB, 400: None})
    facts = find_facts(tmp_path, nvml=nvml)
    assert facts.nvml.holders is not None
    assert [(h.pid, h.name, h.used_bytes) for h in facts.nvml.holders] == [
        (200, None, 4000 * MIB),
        (300, "Xorg", 700 * MIB),
        (400, None, None),
    ]
    taken = next(finding for finding in judge(facts) if finding.kind is Kind.MEMORY_TAKEN)
    assert "process 200: 4,000.00 MB, Xorg 300: 700.00 MB, process 400" in taken.what
    assert f"--vram at {(16 << 10) - 5000}MB or less" in taken.todo


@pytest.mark.parametrize("gpu", ["GPU-nowhere", "1", "all"])
def test_an_unknown_card_is_the_users_error(tmp_path: Path, gpu: str) -> None:
    with pytest.raises(UserInputError, match=rf"--gpus: expected a GPU of 0 \(GPU-fake\), got '{gpu}'"):
        gather.gather_facts(runs_dir=tmp_path, gpu=gpu, nvml_library=FakeNvml())


@pytest.mark.parametrize("gpu", ["0", "GPU-fa", "GPU-fake"])
def test_a_card_is_chosen_by_its_uuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str) -> None:
    environments: list[dict[str, str]] = []

    def choose(environment: dict[str, str]) -> FakeChildren:
        environments.append(environment)
        return FakeChildren(torch=("exits", "no torch"))

    monkeypatch.setattr(gather, "Children", choose)
    gather.gather_facts(runs_dir=tmp_path, gpu=gpu, nvml_library=FakeNvml())
    assert environments == [{"CUDA_VISIBLE_DEVICES": "GPU-fake"}]


def test_nothing_is_left_running(tmp_path: Path) -> None:
    before = child_pids()
    find_facts(tmp_path, torch=("hangs",))
    find_facts(tmp_path, triton=("hangs",), model="signal:SIGSEGV")
    assert child_pids() == before
