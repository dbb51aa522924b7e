"""A cluster that the command starts for itself: who can reach it, and what is left of it after Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from phase8_tune.benchmarks import fault_processes

LISTENING = "0A"
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
STUDY = """
name: tiny
defaults: {model: nano, kernel_version: reference, gradient_checkpointing: false, mixed_precision: none}
rows: [{n_seq: 8, batch_size: 1}, {n_seq: 16, batch_size: 1}, {n_seq: 24, batch_size: 1}]
"""


def sockets_of(pids: list[int]) -> Iterator[str]:
    """The numbers of the sockets that processes have open."""
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(entry)
            except OSError:
                continue
            if target.startswith("socket:["):
                yield target[8:-1]


def listening_at(pids: list[int]) -> set[str]:
    """The addresses, as the system writes them, on which processes listen."""
    own = set(sockets_of(pids))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in own:
                found.add(fields[1].partition(":")[0])
    return found


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """The paths of Ray's sockets may not be long."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_it_listens_on_the_loopback_only_and_ctrl_c_ends_all_of_it(
    tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fault_processes.MARK, f"{os.getpid()} loopback")
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 1}')
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))  # where no other test's cluster is written down
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(STUDY)
    driver = [sys.executable, "-m", "phase8_tune.benchmarks.cluster_driver", "--takes=0 --hangs=2"]
    with subprocess.Popen(
        [*driver, "--vram", "2GB", "--study", "tiny.yaml", "--run", "mine", "--cluster", "auto", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        seen = next((line for line in lines if '"recorded"' in line), "")
        started = fault_processes.marked()
        addresses = listening_at(started)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate()
    assert seen, err
    assert len(started) > 5  # the driver, Ray's own, the actor and its worker
    assert addresses
    assert addresses <= LOOPBACK
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert fault_processes.leftovers() == []
    assert '"interrupted"' in rest or "interrupted; " in err
    assert len((tmp_path / "runs" / "mine" / "records.jsonl").read_text().splitlines()) == 1
