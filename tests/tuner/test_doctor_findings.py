"""Each finding of the doctor by itself, and how the whole is shown and written."""

from __future__ import annotations

from typing import Any

import pytest

from phase8_tune.tuner.doctor.diagnosis import diagnose, render
from phase8_tune.tuner.doctor.facts import Diagnosis, Facts, Kind, Probe, RangeMiss, RunsFolder, WslFacts
from phase8_tune.tuner.doctor.rules import judge
from phase8_tune.tuner.values.measurement import Telemetry
from phase8_tune.tuner.values.outcome import Outcome

from ..fakes.nvml import MIB
from .doctors import CARD, NO_WSL, NamesProcesses, find_facts, make_plain

WSL = WslFacts(is_wsl=True, has_gpu_device=True, has_driver_library=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Facts of a computer with nothing wrong."""
    with pytest.MonkeyPatch.context() as patch:
        make_plain(patch)
        return find_facts(tmp_path_factory.mktemp("runs"), nvml=NamesProcesses())


def test_a_sound_computer(sound: Facts) -> None:
    found = diagnose(sound)
    assert found.findings == ()
    assert (found.training_on_gpu, found.exit_code, found.measuring_on) == (True, 0, "cuda")
    assert found.memory_source == "nvml process used"
    assert [kernel.can_run for kernel in sound.kernels] == ["yes"] * len(sound.kernels)
    assert list(found.environment)[:8] == [
        "Device", "GPU", "VRAM", "CUDA", "Driver", "PyTorch", "Triton", "Triton status",
    ]  # fmt: skip
    assert found.environment["Triton status"] == "works: a kernel was compiled and run in 1.2 s"
    text = render(found)
    assert "Nothing is wrong." in text
    assert "Training on fake card works" in text


def test_the_object_of_json_reads_back(sound: Facts) -> None:
    found = diagnose(sound.model_copy(update={"power_source": "battery"}))
    assert Diagnosis.model_validate_json(found.model_dump_json(indent=2)) == found


@pytest.mark.parametrize(
    ("wsl", "in_container", "todo"),
    [
        (WslFacts(is_wsl=True, has_gpu_device=False, has_driver_library=False), False, "wsl --update"),
        (WslFacts(is_wsl=True, has_gpu_device=True, has_driver_library=False), False, "in Windows"),
        (NO_WSL, True, "--gpus all"),
        (NO_WSL, False, "nvidia-smi"),
    ],
)
def test_where_to_look_for_a_missing_gpu(sound: Facts, wsl: WslFacts, in_container: bool, todo: str) -> None:
    facts = sound.model_copy(
        update={
            "device": CARD.model_copy(update={"kind": "cpu"}),
            "nvml": sound.nvml.model_copy(update={"cards": ()}),
            "trial": None,
            "wsl": wsl,
            "in_container": in_container,
        }
    )
    (finding,) = judge(facts)
    assert finding.kind is Kind.NO_GPU
    assert todo in finding.todo


def trial_with(facts: Facts, **update: Any) -> dict[str, Any]:
    assert facts.trial is not None
    return {"trial": facts.trial.model_copy(update=update)}


def nvml_with(facts: Facts, **update: Any) -> dict[str, Any]:
    return {"nvml": facts.nvml.model_copy(update=update)}


@pytest.mark.parametrize(
    ("kind", "severity", "make", "said"),
    [
        (Kind.TRIAL_DISTURBED, "warning",
         lambda f: trial_with(f, outcome=Outcome.INTERFERENCE, message="process 7 came"), "process 7 came"),
        (Kind.TRITON_MISSING, "warning",
         lambda f: {"triton": Probe(works=False, said="not installed"),
                    "versions": f.versions.model_copy(update={"triton": None})}, "not installed"),
        (Kind.SHARED_MEMORY_SMALL, "warning",
         lambda f: {"device": CARD.model_copy(update={"shared_memory_per_block_bytes": 65_536})}, "65536"),
        (Kind.MEMORY_TAKEN, "warning", lambda f: nvml_with(f, used_bytes=6 << 30), "6,144.00 MB"),
        (Kind.WSL_SPILL, "note", lambda f: {"wsl": WSL}, "system memory"),
        (Kind.ON_BATTERY, "warning", lambda f: {"power_source": "battery"}, "battery"),
        (Kind.THROTTLED, "warning",
         lambda f: nvml_with(f, throttle_reasons=("gpu_idle", "sw_thermal_slowdown")), "sw_thermal_slowdown"),
        (Kind.THROTTLED, "warning",
         lambda f: trial_with(f, telemetry=Telemetry(throttle_reasons=("hw_slowdown",))), "hw_slowdown"),
        (Kind.DISK_FULL, "warning",
         lambda f: {"runs_folder": RunsFolder(path="runs", free_bytes=MIB, is_writable=True)}, "1.00 MB"),
        (Kind.RUNS_FOLDER_UNWRITABLE, "warning",
         lambda f: {"runs_folder": RunsFolder(path="runs", free_bytes=MIB, is_writable=False)}, "runs"),
        (Kind.VERSION_OUT_OF_RANGE, "warning",
         lambda f: {"out_of_range": (RangeMiss(name="torch", installed="2.2.0", expected=">=2.11"),)},
         "torch: expected >=2.11, got 2.2.0"),
    ],
)  # fmt: skip
def test_each_finding_by_itself(sound: Facts, kind: Kind, severity: str, make: Any, said: str) -> None:
    facts = sound.model_copy(update=make(sound))
    (finding,) = judge(facts)
    assert (finding.kind, finding.severity) == (kind, severity)
    assert said in finding.what
    assert finding.todo
    found = diagnose(facts)
    assert found.exit_code == 0
    (line,) = [line for line in render(found).splitlines() if line.startswith(f"{severity}: ")]
    assert finding.what in line


def test_a_power_cap_and_an_idle_clock_are_no_throttling(sound: Facts) -> None:
    update = nvml_with(sound, throttle_reasons=("gpu_idle", "sw_power_cap"))
    assert judge(sound.model_copy(update=update)) == ()


def test_errors_come_first(sound: Facts) -> None:
    facts = sound.model_copy(update={"wsl": WSL, "power_source": "battery", "gpu_failure": "no"})
    assert [finding.severity for finding in judge(facts)] == ["error", "warning", "note"]


def test_a_finding_is_one_line(sound: Facts) -> None:
    facts = sound.model_copy(update={"gpu_failure": "CUDA error\nand advice\n"})
    assert "\n" not in judge(facts)[0].what
