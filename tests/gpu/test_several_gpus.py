"""One study over all GPUs of the computer: `phase8-tune --gpus all`, from the command line to its files."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from phase8_tune.tuner.machine.gpus import select_gpus
from phase8_tune.tuner.machine.nvml import open_nvml
from phase8_tune.tuner.values.errors import UserInputError

pytestmark = [
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs"),
    pytest.mark.xdist_group("measuring"),
]

STUDY = """
name: tiny
axes:
  model: [nano]
  n_seq: [64, 128, 256]
  batch_size: [1, 2, 4, 8]
  kernel_version: [reference]
  gradient_checkpointing: [false, true]
  mixed_precision: [bf16]
search: {startup_trials: 4, seed: 0}
timing: {warmup: 1, iterations: 5, timeout_s: 120}
"""
CANDIDATES = 24


@pytest.fixture
def uuids() -> tuple[str, ...]:
    try:
        return select_gpus("all")
    except UserInputError as error:
        pytest.skip(str(error))  # different models, or NVML does not list them


def start(folder: Path, gpus: str) -> subprocess.Popen[str]:
    (folder / "tiny.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "phase8_tune.tuner.cli", "--vram", "4GB", "--study", "tiny.yaml"]
    return subprocess.Popen(
        [*command, "--run", "mine", "--gpus", gpus],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def digests_by_uuid(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (folder / "runs" / "mine" / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["attempt"] == 1:  # a retry is told from the first, and is no double
            found.setdefault(record["measurement"]["device"]["uuid"], []).append(record["digest"])
    return found


def processes_on(uuids: tuple[str, ...]) -> set[int]:
    nvml = open_nvml().nvml
    assert nvml is not None
    cards = [nvml.find(uuid) for uuid in uuids]
    return {pid for card in cards if card is not None for pid in card.processes() or {}}


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


def are_gone(pidfds: list[int]) -> bool:
    """Whether all end within a generous time: a pidfd becomes readable when its process does."""
    return all(select.select([pidfd], [], [], 60)[0] for pidfd in pidfds)


def test_a_study_on_all_of_them(tmp_path: Path, uuids: tuple[str, ...]) -> None:
    before = processes_on(uuids)
    with start(tmp_path, "all") as driver:
        out, err = driver.communicate()
    assert driver.returncode == 0, err
    by_uuid = digests_by_uuid(tmp_path)
    assert set(by_uuid) == set(uuids)
    measured = Counter(digest for digests in by_uuid.values() for digest in digests)
    assert set(measured.values()) == {1}
    assert len(measured) == CANDIDATES
    assert f"measured on {len(uuids)} GPUs:" in out
    logs = {path.name for path in (tmp_path / "runs" / "mine").glob("*.log")}
    assert logs == {f"worker-{uuid}.log" for uuid in uuids}
    assert processes_on(uuids) - before == set()


def test_an_interrupt_leaves_no_worker_and_one_gpu_goes_on(tmp_path: Path, uuids: tuple[str, ...]) -> None:
    with start(tmp_path, "0,1") as driver:
        assert driver.stderr is not None
        next(line for line in driver.stderr if line.startswith("[ 1/"))
        workers = [os.pidfd_open(pid) for pid in children(driver.pid)]
        driver.send_signal(signal.SIGINT)
        err = driver.stderr.read()
    assert driver.returncode == 130, err
    assert "Traceback" not in err
    assert len(workers) >= 2
    assert are_gone(workers)
    kept = (tmp_path / "runs" / "mine" / "records.jsonl").read_text()
    with start(tmp_path, uuids[1][:16]) as driver:
        _, err = driver.communicate()
    assert driver.returncode == 0, err
    assert (tmp_path / "runs" / "mine" / "records.jsonl").read_text().startswith(kept)
    measured = Counter(digest for digests in digests_by_uuid(tmp_path).values() for digest in digests)
    assert set(measured.values()) == {1}
    assert len(measured) == CANDIDATES
