"""phase8-tune on several fake GPUs: a real driver, real worker processes, and what they leave behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.tuner.measuring.worker_measurer import WorkerMeasurer
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.timing import Timing

from ..fakes.nvml import MIB, FakeMachine, FakeNvml
from .processes import is_gone

WORKER = Path(__file__).parents[1] / "fakes" / "worker.py"
DRIVER = Path(__file__).with_name("several_gpus.py")
STUDY = """
name: tiny
axes:
  model: [nano]
  n_seq: [16, 32]
  batch_size: [1, 2, 4, 8]
  kernel_version: [reference]
  gradient_checkpointing: [false]
  mixed_precision: [none]
search: {startup_trials: 2, seed: 0}
"""
CANDIDATES = 8


class Run:
    """One run directory and the drivers started for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "runs" / "mine"
        (folder / "tiny.yaml").write_text(STUDY)
        os.mkfifo(folder / "here")
        os.mkfifo(folder / "go")
        self.ends = [os.open(folder / "here", os.O_RDWR)]  # so that no worker waits for a reader

    def start(self, gpus: str, *worker: str) -> subprocess.Popen[str]:
        """A driver whose output is read by the test; `worker` are options of the fake worker."""
        fake = shlex.join([sys.executable, str(WORKER), "--device=cuda", *worker])
        command = [sys.executable, str(DRIVER), fake, "--vram", "2GB", "--study", "tiny.yaml"]
        return subprocess.Popen(
            [*command, "--run", "mine", "--gpus", gpus],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def await_workers(self, count: int) -> list[int]:
        """The pids of so many workers that wait in their second trial."""
        said = b""
        while said.count(b"\n") < count:
            said += os.read(self.ends[0], 1 << 12)
        return [int(pid) for pid in said.split()]

    def let_go(self) -> None:
        """Whoever waits goes on, and whoever is about to."""
        self.ends.append(os.open(self.folder / "go", os.O_RDWR))

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / "records.jsonl").read_text().splitlines()]

    def measured_on(self) -> Counter[str]:
        return Counter(r["measurement"]["device"]["uuid"] for r in self.records())


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    for end in made.ends:
        os.close(end)


@pytest.mark.parametrize("uuids", [("GPU-a", "GPU-b"), ("GPU-a", "GPU-b", "GPU-c")], ids=["two", "three"])
def test_one_study_on_several_gpus(run: Run, uuids: tuple[str, ...]) -> None:
    with run.start(",".join(uuids), f"--waits={run.folder}") as driver:
        workers = run.await_workers(len(uuids))  # all of them in a trial at once
        run.let_go()
        out, err = driver.communicate()
    assert driver.returncode == 0, err
    assert len({r["digest"] for r in run.records()}) == len(run.records()) == CANDIDATES
    measured_on = run.measured_on()
    assert set(measured_on) == set(uuids)
    sentence = f"{len(uuids)} GPUs: " + ", ".join(f"{measured_on[uuid]} on {uuid}" for uuid in uuids)
    assert f"device: cuda ({len(uuids)} GPUs)" in err
    assert f"  measured on {sentence}\n" in out
    report = " ".join((run.root / "report.md").read_text().split())
    assert f"| Measured on | {sentence} |" in report
    logs = {path.name for path in run.root.glob("*.log")}
    assert logs == {f"worker-{uuid}.log" for uuid in uuids}
    assert all(is_gone(pid) for pid in workers)


def test_a_gpu_that_breaks_is_set_aside_with_one_line(run: Run) -> None:
    options = (f"--waits={run.folder}", f"--breaks={run.folder / 'broken'}", "--card=GPU-b")
    with run.start("GPU-a,GPU-b", *options) as driver:
        assert driver.stderr is not None
        lines = iter(driver.stderr.readline, "")
        (told,) = [next(line for line in lines if "set aside" in line)]
        run.let_go()
        rest, out = driver.stderr.read(), driver.stdout.read() if driver.stdout else ""
    assert driver.returncode == 0, rest
    assert told.startswith("phase8-tune: GPU-b is set aside, 1 other goes on: no worker could be started")
    assert "no card and advice" in told
    assert "worker-GPU-b.log" in told
    assert "set aside" not in rest
    # The trial in which it broke was killed, and made again on the other.
    outcomes = Counter(r["measurement"]["outcome"] for r in run.records())
    assert outcomes == {"ok": CANDIDATES, "killed": 1}
    assert run.measured_on() == {"GPU-a": CANDIDATES - 1, "GPU-b": 2}
    assert f"{CANDIDATES} configurations: {CANDIDATES} measured" in out


def test_when_all_gpus_fail_the_exit_code_is_4(run: Run) -> None:
    with run.start("GPU-a,GPU-b", "--start=failed") as driver:
        _, err = driver.communicate()
    assert driver.returncode == 4
    assert err.splitlines()[-1].startswith("phase8-tune: all 2 GPUs failed; the last: no worker could be")
    assert err.count("set aside") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("resumed", ["GPU-a", "GPU-b,GPU-c,GPU-d"])
def test_an_interrupt_leaves_no_worker_and_another_number_of_gpus_goes_on(run: Run, resumed: str) -> None:
    with run.start("GPU-a,GPU-b", f"--waits={run.folder}") as driver:
        workers = run.await_workers(2)
        driver.send_signal(signal.SIGINT)
        _, err = driver.communicate()
    assert driver.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("phase8-tune: interrupted; 2 measured configurations are kept")
    assert all(is_gone(pid) for pid in workers)
    kept = run.records()
    assert len(kept) == 2
    with run.start(resumed) as driver:
        _, err = driver.communicate()
    assert driver.returncode == 0, err
    records = run.records()
    assert records[:2] == kept
    assert len({r["digest"] for r in records}) == len(records) == CANDIDATES


def test_a_monitor_looks_at_its_own_card_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = FakeNvml(uuid="GPU-own"), FakeNvml(uuid="GPU-other", processes={1: 0}, reasons=0x40)
    # Were it taken for the own card, this would be another program's memory that moves.
    other.grows_by = 4000 * MIB
    other.grow_once()
    with WorkerMeasurer(
        device="cuda",
        budget_bytes=8 << 30,
        reserve_bytes=0,
        log_dir=tmp_path,
        timing=Timing(),
        gpu_uuid="GPU-own",
        command=(sys.executable, str(WORKER), "--device=cuda"),
        nvml_library=FakeMachine([other, own]),
    ) as measurer:
        found = measurer.measure(
            Candidate(
                model="progress",
                n_seq=8,
                batch_size=1,
                kernel_version="reference",
                gradient_checkpointing=False,
                mixed_precision="none",
            )
        )
    assert (found.outcome, found.tainted) == ("ok", ())
    assert found.device is not None
    assert found.device.uuid == "GPU-own"
    assert own.calls > 0
    assert other.calls == 0
