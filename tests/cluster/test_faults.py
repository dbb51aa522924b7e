"""Nodes, database and driver are ended in the middle of a study: `benchmarks/cluster.py` in short."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phase8_tune.benchmarks import cluster_faults, fault_processes, postgres_server


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
    assert found.exit_codes == [-9, 0]
    assert found.is_clean, found.to_dict()
