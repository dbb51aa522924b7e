"""A study over a cluster with faults in it: nodes, database and driver are ended in the middle of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna

from ..tests.fakes.cluster import WORKER
from ..tuner.records.storage_address import PASSWORD_FILE, check_address, connect
from .cluster_nodes import PretendedCluster
from .fault_harness import study_text
from .fault_processes import MARK, marked
from .postgres_server import PostgresServer

RUN = "mine"
_TAKES_S = 1.0
_NEVER_S = 1500.0


@dataclass(kw_only=True, slots=True)
class Account:
    """What was done to a study, and what is left of it afterwards."""

    candidates: int
    node_kills: int = 0
    server_restarts: int = 0
    server_away_s: float = 0.0
    driver_kills: int = 0
    seconds: float = 0.0
    records: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0
    told: int = 0
    told_twice: int = 0
    records_in_database: int = 0
    differing_in_database: int = 0
    left_behind: int = 0
    exit_codes: list[int] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        whole = self.candidates == self.records == self.told == self.records_in_database
        wrong = self.lost, self.doubled, self.told_twice, self.differing_in_database, self.left_behind
        ended = [*[-signal.SIGKILL] * self.driver_kills, 0, 0]
        return whole and not any(wrong) and self.exit_codes == ended

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"is_clean": self.is_clean}


class Driver:
    """`phase8-tune` in a process of its own, started again after each kill."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
        self._folder, self._arguments, self._environment = folder, arguments, environment
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with (self._folder / "driver.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    f"{__package__}.cluster_driver",
                    f"--takes={_TAKES_S}",
                    *self._arguments,
                ],
                cwd=self._folder,
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
            )
        return self.process


def run_faults(
    folder: Path,
    *,
    candidates: int,
    nodes: int,
    node_kills: int,
    restarts: int,
    driver_kills: int,
    away_s: float,
    seed: int,
) -> Account:
    """A whole study with faults at random moments; what became of it. away_s: how long the database is.

    The moments are drawn by how many records are there, and up to a measurement's time later.
    """
    chance, account = random.Random(seed), Account(candidates=candidates)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.yaml").write_text(study_text(candidates), encoding="utf-8")
    journal = folder / "runs" / RUN / "records.jsonl"
    os.environ[MARK] = str(os.getpid())
    kills = sorted(chance.randrange(3, candidates * 9 // 10) for _ in range(node_kills))
    first_s = time.monotonic()
    with PretendedCluster(nodes) as cluster, PostgresServer() as server:
        environment = {PASSWORD_FILE: str(server.password_file), "PHASE8_TUNE_CACHE": str(folder / "cache")}
        arguments = [
            *("--vram", "2GB", "--study", "faults.yaml", "--run", RUN),
            *("--cluster", cluster.address, "--storage", server.url),
        ]
        driver = Driver(folder, arguments, environment)
        away = _Away(server, away_s)
        faults: list[tuple[int, str]] = [(count, "node") for count in kills]
        # A driver that begins has to find the database: it is away last, past the end of a fast study.
        faults += [(candidates * (1 + i) // 8, "server") for i in range(restarts)]
        faults += [(candidates * (3 + i) // 8 + 1, "driver") for i in range(driver_kills)]
        faults.append((candidates * 5 // 8, "away"))
        for count, kind in sorted(faults):
            _await_records(journal, count, driver)
            time.sleep(chance.uniform(0, _TAKES_S))
            _check_lives(driver, count)
            if kind == "node":
                cluster.kill(chance.randrange(len(cluster.ids)))
                account.node_kills += 1
                cluster.add()
            elif kind == "away":
                away.begin()
            elif kind == "server":
                server.stop()
                server.start()
                account.server_restarts += 1
            else:
                driver.process.send_signal(signal.SIGKILL)
                account.exit_codes.append(driver.process.wait())
                driver.start()
                account.driver_kills += 1
        account.exit_codes.append(driver.process.wait(_NEVER_S))
        account.seconds = round(time.monotonic() - first_s, 1)
        account.server_away_s = away.end()
        # What the database lacks the same command brings there, as it said when it ended.
        account.exit_codes.append(driver.start().wait(_NEVER_S))
        account.left_behind = sum(map(_is_worker, marked()))
        _judge(account, journal, server)
    return account


class _Away:
    """The server stays away for a while, and everything else goes on."""

    def __init__(self, server: PostgresServer, stays_s: float) -> None:
        self._server, self._stays_s, self._away_s = server, stays_s, 0.0
        self._thread = threading.Thread(target=self._stay_away)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> float:
        """Wait until it is back; how long it was away, in seconds."""
        self._thread.join()
        return round(self._away_s, 1)

    def _stay_away(self) -> None:
        begun_s = time.monotonic()
        self._server.stop()
        time.sleep(self._stays_s)
        self._away_s = time.monotonic() - begun_s
        self._server.start()


def _await_records(journal: Path, count: int, driver: Driver) -> None:
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        _check_lives(driver, count)
        time.sleep(0.02)


def _check_lives(driver: Driver, count: int) -> None:
    """Raises: RuntimeError where a fault at so many records would meet a driver that has ended."""
    if driver.process.poll() is not None:
        raise RuntimeError(f"the driver ended with {driver.process.returncode} before a fault at {count}")


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return str(WORKER).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _judge(account: Account, journal: Path, server: PostgresServer) -> None:
    """Count what the journal and the database hold."""
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    digests = Counter(line["digest"] for line in lines)
    account.records = len(lines)
    account.outcomes = dict(Counter(line["measurement"]["outcome"] for line in lines))
    account.lost = account.candidates - len(digests)
    account.doubled = sum(count - 1 for count in digests.values())
    with server.password_known():
        storage = connect(check_address(server.url))
        trials = optuna.load_study(study_name=RUN, storage=storage).trials
    done = [t for t in trials if t.state == optuna.trial.TrialState.COMPLETE]
    told = Counter(trial.user_attrs["digest"] for trial in done)
    account.told, account.told_twice = len(told), sum(count - 1 for count in told.values())
    kept = [
        value
        for trial in trials
        for key, value in trial.user_attrs.items()
        if key.startswith("record_")
    ]  # fmt: skip
    account.records_in_database = len(kept)
    account.differing_in_database = sum(lines[value["line"] - 1] != value["record"] for value in kept)
