"""Nodes, database and driver are ended in the middle of a study: `benchmarks/cluster.py` in short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from phase8_tune.benchmarks import cluster_faults, fault_processes, postgres_server
from phase8_tune.benchmarks.cluster_nodes import PretendedCluster
from phase8_tune.benchmarks.fault_harness import study_text


@pytest.mark.skipif(postgres_server.lacks() is not None, reason=str(postgres_server.lacks()))
def test_nothing_is_lost_and_nothing_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fault_processes.MARK, str(os.getpid()))
    found = cluster_faults.run_faults(
        tmp_path / "study",
        candidates=20,
        nodes=2,
        node_kills=2,
        restarts=1,
        driver_kills=1,
        away_s=3.0,
        seed=0,
    )
    assert (found.node_kills, found.server_restarts, found.driver_kills) == (2, 1, 1)
    assert found.exit_codes == [-9, 0, 0]
    assert found.is_clean, found.to_dict()


def test_without_its_head_a_search_ends_in_one_line_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "faults.yaml").write_text(study_text(500))
    command = [sys.executable, "-m", "phase8_tune.benchmarks.cluster_driver", "--takes=0.2"]
    command += ["--vram", "2GB", "--study", "faults.yaml", "--run", "mine", "--json"]
    with (
        PretendedCluster(1) as cluster,
        subprocess.Popen(
            [*command, "--cluster", cluster.address],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as driver,
    ):
        assert driver.stdout is not None
        next(line for line in iter(driver.stdout.readline, "") if '"recorded"' in line)
        cluster.kill_head()
        _, err = driver.communicate()
    assert driver.returncode == 4, err
    assert err.splitlines()[-1].startswith(
        f"phase8-tune: the head of the cluster at {cluster.address} does not"
    )
    assert "Traceback" not in err
    assert (tmp_path / "runs" / "mine" / "report.md").exists()
