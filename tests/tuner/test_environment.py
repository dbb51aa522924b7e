"""The environment, the worker's own accounting, and the choice of a device; none of it needs a GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.tuner.machine import devices, environment
from phase8_tune.tuner.machine.devices import (
    CudaProbe,
    device_total_bytes,
    device_uuids,
    probe_cuda,
    resolve_device,
)
from phase8_tune.tuner.machine.nvml import Nvml, OpenedNvml
from phase8_tune.tuner.machine.process_memory import read_status_bytes
from phase8_tune.tuner.measuring.protocol import MeasureRequest
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.measurement import DeviceInfo, Versions
from phase8_tune.tuner.worker.accounting import HostAccount

from ..fakes.nvml import FakeNvml

VERSIONS = Versions(
    phase8_tune="0.1.0",
    python="3.11.7",
    torch="2.13.0",
    triton="3.7.1",
    cuda="13.0",
    driver="580.1",
    os="WSL Ubuntu",
)
CARD = DeviceInfo(kind="cuda", name="RTX", total_bytes=8 << 30)
USABLE = '{"total_bytes": 8589934592, "uuids": ["GPU-a"], "built_for": "13.0"}'
REQUEST = MeasureRequest(id=1, candidate={}, warmup=0, iterations=1, seed=0, budget_bytes=1, reserve_bytes=0)


def test_rows_of_a_gpu_follow_the_seed() -> None:
    rows = dict(environment.gather_environment(CARD, VERSIONS).rows())
    assert list(rows)[:5] == ["Device", "GPU", "VRAM", "CUDA", "Driver"]
    assert rows["VRAM"] == "8.00 GiB"
    assert rows["OS"] == "WSL Ubuntu"


def test_rows_of_a_cpu_say_so() -> None:
    processor = DeviceInfo(kind="cpu", name="EPYC", total_bytes=1 << 34)
    rows = dict(environment.gather_environment(processor, VERSIONS).rows())
    assert rows["Device"] == "cpu"
    assert "GPU" not in rows


def test_triton_status() -> None:
    without = VERSIONS.model_copy(update={"triton": None})
    assert "not installed" in environment.triton_status(CARD, without)
    assert environment.triton_status(CARD, VERSIONS) == "installed"


def test_wsl_is_told_by_its_kernel() -> None:
    assert environment.is_wsl("6.6.87.2-microsoft-standard-WSL2")
    assert not environment.is_wsl("6.8.0-45-generic")


def test_processor_name(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nmodel name : Fast 9000\n")
    assert environment.processor_name(cpuinfo).startswith("Fast 9000 (")
    assert "logical processors" in environment.processor_name(tmp_path / "nothing")


@pytest.mark.parametrize(("written", "is_limited"), [("max\n", False), ("4096\n", True)])
def test_container_limit_is_the_machines_memory(tmp_path: Path, written: str, is_limited: bool) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(written)
    found = environment.host_memory_bytes((tmp_path / "nothing", limit))
    assert (found == 4096) is is_limited


@pytest.fixture
def fresh_probe() -> Iterator[None]:
    probe_cuda.cache_clear()
    yield
    probe_cuda.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, answer: Any, version: str | None = "2.13.0") -> None:
    def run(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(arguments, 0, stdout=answer, stderr="")

    monkeypatch.setattr(devices, "installed_version", lambda name: version)
    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.usefixtures("fresh_probe")
@pytest.mark.parametrize(
    ("answer", "version", "said"),
    [
        ("", None, "not installed"),
        ("", "2.13.0+cpu", "without CUDA"),
        ('{"total_bytes": null, "built_for": "13.0"}', "2.13.0", "sees no CUDA device"),
        ('{"total_bytes": null, "built_for": null}', "2.13.0", "without CUDA"),
        ("Segfault", "2.13.0", "Segfault"),
        (subprocess.TimeoutExpired("python", 1), "2.13.0", "did not answer"),
        (subprocess.CalledProcessError(1, "python", stderr="a\nlast words\n"), "2.13.0", "last words"),
        (subprocess.CalledProcessError(-11, "python", stderr=""), "2.13.0", "-11"),
    ],
)
def test_no_usable_gpu(monkeypatch: pytest.MonkeyPatch, answer: Any, version: str | None, said: str) -> None:
    pretend(monkeypatch, answer, version)
    assert resolve_device("auto") == "predicted"
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(UserInputError, match="--device cpu") as caught:
        resolve_device("cuda")
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.usefixtures("fresh_probe")
def test_usable_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, USABLE)
    assert resolve_device("auto") == "cuda"
    assert device_total_bytes("cuda") == 8 << 30
    assert device_uuids() == ("GPU-a",)
    assert device_uuids(("GPU-b", "GPU-c")) == ("GPU-b", "GPU-c")


@pytest.mark.usefixtures("fresh_probe")
def test_named_gpus_are_probed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, USABLE)
    probed: list[tuple[str, str]] = []
    real = subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        probed.append((options["env"]["CUDA_VISIBLE_DEVICES"], command[-1]))
        return real(command, **options)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setattr(subprocess, "run", run)
    assert resolve_device("auto", ("GPU-a", "GPU-b")) == "cuda"
    assert device_total_bytes("cuda", ("GPU-a", "GPU-b")) == 8 << 30
    assert resolve_device("auto") == "cuda"
    assert probed == [("GPU-a,GPU-b", "2"), ("7", "1")]
    with pytest.raises(UserInputError, match="--gpus: expected --device cuda or auto"):
        resolve_device("cpu", ("GPU-a",))


@pytest.mark.usefixtures("fresh_probe")
def test_named_gpus_are_not_passed_over_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, '{"total_bytes": null, "built_for": "13.0"}')
    with pytest.raises(UserInputError, match="--gpus: expected CUDA to have GPU-a, found none") as caught:
        resolve_device("auto", ("GPU-a",))
    assert caught.value.exit_code == 2


def test_the_driver_imports_no_torch() -> None:
    code = "import sys, phase8_tune.tuner.measuring.worker_measurer; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def proc(folder: Path, status: str, *, is_resettable: bool) -> Path:
    (folder / "status").write_text(status)
    if not is_resettable:
        (folder / "clear_refs").mkdir()  # writing to it fails, as where the kernel forbids it
    return folder


def test_status_figures(tmp_path: Path) -> None:
    proc(tmp_path, "Name:\tx\nVmHWM:\t  12 kB\nVmRSS:\t   3 kB\n", is_resettable=True)
    assert read_status_bytes(tmp_path / "status", "VmHWM") == 12 * 1024
    assert read_status_bytes(tmp_path / "status", "VmSwap") is None
    assert read_status_bytes(tmp_path / "nothing", "VmRSS") is None


@pytest.mark.parametrize(
    ("status", "is_resettable", "source", "is_replaced"),
    [
        ("VmHWM: 12 kB\nVmRSS: 3 kB\n", True, "reset before the trial", False),
        ("VmHWM: 12 kB\nVmRSS: 3 kB\n", False, "refused a reset", True),
        ("VmRSS: 3 kB\n", True, "ru_maxrss", True),
    ],
)
def test_source_of_the_peak_is_named(
    tmp_path: Path, status: str, is_resettable: bool, source: str, is_replaced: bool
) -> None:
    account = HostAccount(proc(tmp_path, status, is_resettable=is_resettable))
    account.begin(REQUEST)
    found = account.report()
    assert source in found.source
    assert found.before_bytes == 3 * 1024
    assert (account.settle() is not None) is is_replaced


@pytest.mark.usefixtures("fresh_probe")
def test_what_torch_found_is_asked_once_while_cards_and_driver_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "open_nvml", lambda: OpenedNvml(nvml=Nvml(FakeNvml()), reason=""))
    pretend(monkeypatch, '{"total_bytes": 8, "uuids": ["GPU-a"], "built_for": "13.0"}')
    assert probe_cuda().total_bytes == 8
    probe_cuda.cache_clear()  # another process
    pretend(monkeypatch, AssertionError("torch was asked again"))
    assert probe_cuda() == CudaProbe(total_bytes=8, uuids=("GPU-a",))
    probe_cuda.cache_clear()
    pretend(monkeypatch, '{"total_bytes": null, "built_for": "13.0"}', version="2.14.0")
    assert probe_cuda().total_bytes is None  # another torch


@pytest.mark.usefixtures("fresh_probe")
def test_a_card_that_torch_cannot_use_is_asked_for_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "open_nvml", lambda: OpenedNvml(nvml=Nvml(FakeNvml()), reason=""))
    pretend(monkeypatch, '{"total_bytes": null, "built_for": "13.0"}')
    assert probe_cuda().total_bytes is None
    probe_cuda.cache_clear()
    pretend(monkeypatch, '{"total_bytes": 8, "uuids": ["GPU-a"], "built_for": "13.0"}')
    assert probe_cuda().total_bytes == 8
