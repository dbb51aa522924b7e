"""The doctor's look at the machine, its children's ends, and the command itself on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from phase8_tune.tuner.doctor import machine
from phase8_tune.tuner.doctor.answers import SegmentsAnswer
from phase8_tune.tuner.doctor.children import ask_child
from phase8_tune.tuner.doctor.facts import Diagnosis, Kind
from phase8_tune.tuner.doctor.gather import SMALLEST_CANDIDATE
from phase8_tune.tuner.measuring.worker_measurer import WorkerMeasurer
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.timing import Timing

from .doctors import ask


def test_wsl_and_its_driver(tmp_path: Path) -> None:
    bare = machine.wsl_facts(tmp_path, "6.8.0-generic")
    assert (bare.is_wsl, bare.has_gpu_device, bare.has_driver_library) == (False, False, False)
    (tmp_path / "usr/lib/wsl/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/wsl/lib/libcuda.so.1").touch()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/dxg").touch()
    whole = machine.wsl_facts(tmp_path, "6.6.87.2-microsoft-standard-WSL2")
    assert (whole.is_wsl, whole.has_gpu_device, whole.has_driver_library) == (True, True, True)


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_container(tmp_path: Path, mark: str) -> None:
    assert not machine.in_container(tmp_path)
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()
    assert machine.in_container(tmp_path)


def test_runs_folder(tmp_path: Path) -> None:
    there = machine.runs_folder(tmp_path)
    later = machine.runs_folder(tmp_path / "a" / "b")
    assert there.is_writable
    assert later.is_writable
    assert later.free_bytes is not None
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    assert not machine.runs_folder(tmp_path / "file").is_writable


@pytest.mark.parametrize(
    ("namespace", "name"), [("pid:[4026531836]", "Xorg"), ("pid:[4026532999]", None), (None, None)]
)
def test_a_process_is_named_only_where_numbers_are_the_hosts(
    tmp_path: Path, namespace: str | None, name: str | None
) -> None:
    (tmp_path / "300").mkdir()
    (tmp_path / "300" / "comm").write_text("Xorg\n")
    (tmp_path / "self/ns").mkdir(parents=True)
    if namespace is not None:
        (tmp_path / "self/ns/pid").symlink_to(namespace)
    assert machine.process_name(300, tmp_path) == name
    assert machine.process_name(301, tmp_path) is None


def package(folder: Path, name: str, version: str, *lines: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    text = "\n".join(("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines))
    (info / "METADATA").write_text(text + "\n")


def test_versions_out_of_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "p8-right", "3.0+cpu")
    package(tmp_path, "p8-old", "1.0")
    package(
        tmp_path, "p8-asks", "1",
        "Requires-Python: >=3.11,<3.14",
        "Requires-Dist: p8-right>=3.0",
        "Requires-Dist: p8-old>=2",
        "Requires-Dist: p8-gone>=1",
        "Requires-Dist: p8-elsewhere>=1; platform_system == 'Plan9'",
        "Requires-Dist: p8-dev>=1; extra == 'dev'",
    )  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    misses = machine.out_of_range("3.10.4", "p8-asks")
    assert [(miss.name, miss.installed) for miss in misses] == [
        ("Python", "3.10.4"),
        ("p8-old", "1.0"),
        ("p8-gone", None),
    ]
    assert [miss.name for miss in machine.out_of_range("3.13.1", "p8-asks")] == ["p8-old", "p8-gone"]
    (missing,) = machine.out_of_range("3.12.0", "p8-not-installed")
    assert missing.installed is None


def test_the_ranges_are_those_of_this_package() -> None:
    assert metadata.metadata(machine.DISTRIBUTION).get_all("Requires-Dist")


def test_prints_of_a_library_do_not_hide_the_answer() -> None:
    found = ask(("says", '{"is_expandable": true}'), SegmentsAnswer)
    assert found.answer == SegmentsAnswer(is_expandable=True)


def test_a_child_that_cannot_be_started() -> None:
    found = ask_child(("/nowhere/python",), SegmentsAnswer)
    assert found.answer is None
    assert "No such file" in found.failure


def test_what_a_hanging_child_started_is_ended_with_it(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        script = 'exec 3>"$1"; echo here >&3; cat /dev/zero >/dev/null & wait'
        found = ask_child(("sh", "-c", script, "sh", str(fifo)), SegmentsAnswer, timeout_s=3.0)
        os.set_blocking(reader, True)
        assert os.read(reader, 100) == b"here\n"
        assert os.read(reader, 100) == b""  # the end of the pipe: nobody holds it any more
    finally:
        os.close(reader)
    assert "no answer within 3 s" in found.failure


def test_the_smallest_trial_runs_in_the_real_worker(tmp_path: Path) -> None:
    timing = Timing(warmup=0, iterations=1)
    with WorkerMeasurer(
        device="cpu", budget_bytes=4 << 30, reserve_bytes=0, log_dir=tmp_path, timing=timing
    ) as measurer:
        found = measurer.measure(SMALLEST_CANDIDATE)
    assert (found.outcome, found.message) == (Outcome.OK, "")


_WITHOUT_TORCH = """
import sys
from phase8_tune.tuner.cli import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules, "the driver imported torch"
"""


def run_without_gpu(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, "doctor", *arguments],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_json_on_the_cpu(tmp_path: Path) -> None:
    done = run_without_gpu(tmp_path, "--json", "--runs-dir", "mine")
    assert (done.returncode, done.stderr) == (4, "")
    found = Diagnosis.model_validate_json(done.stdout)
    assert (found.training_on_gpu, found.exit_code, found.measuring_on) == (False, 4, "cpu")
    assert found.findings[0].kind in (Kind.TORCH_WITHOUT_CUDA, Kind.NO_GPU, Kind.GPU_HIDDEN)
    assert found.facts.runs_folder.path == "mine"
    assert list(tmp_path.iterdir()) == []  # looking changes nothing


def test_report_on_the_cpu(tmp_path: Path) -> None:
    done = run_without_gpu(tmp_path)
    assert (done.returncode, done.stderr) == (4, "")
    assert "--device cpu measures on the CPU" in done.stdout.splitlines()[-1]
