"""How fast a cluster measures, and what its driver takes for a candidate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..tests.fakes.cluster import FakeSight
from ..tuner.measuring.executor import Executor, Finished
from ..tuner.places.cluster import Cluster
from ..tuner.places.place import Job
from ..tuner.records.journal import read_records
from ..tuner.records.shared_study import shared_study
from ..tuner.search.search import run_search
from ..tuner.study.definition import StudyDefinition, parse_definition
from ..tuner.values.candidate import Candidate
from ..tuner.values.measurement import DeviceInfo, Versions
from .cluster_nodes import PretendedCluster

_BUDGET_BYTES = 2 << 30
_BATCHES = 64
_STUDY = """\
name: rates
defaults: {{model: nano, kernel_version: reference, gradient_checkpointing: false, mixed_precision: none}}
rows:
{rows}timing: {{warmup: 1, iterations: 5, timeout_s: 60}}
"""


@dataclass(kw_only=True, slots=True)
class Rate:
    """What a study without faults took. gpus: pretended ones. takes_s: of one measurement.

    candidates_per_s: from the first that began to the last that ended. driver_cpu_ms: of the driver's thread
    in between, for each candidate; of it messages_cpu_ms for handing out, waiting and taking in. messages_ms:
    from handing out to taking in, less the measurement itself, in the middle of all candidates.
    """

    gpus: int
    takes_s: float
    candidates: int
    candidates_per_s: float
    driver_cpu_ms: float
    messages_cpu_ms: float
    messages_ms: float

    def to_dict(self) -> dict[str, Any]:
        return {key: round(value, 4) for key, value in asdict(self).items()}


@dataclass(slots=True)
class Timed:
    """An executor whose calls are timed. cpu_s: the thread's own time in them; since_s, until_s: its clock
    when the first candidate began and the last ended."""

    inner: Executor
    begun_s: dict[Candidate, float] = field(default_factory=dict)
    ended_s: dict[Candidate, float] = field(default_factory=dict)
    cpu_s: float = 0.0
    since_s: float = 0.0
    until_s: float = 0.0

    @property
    def device(self) -> DeviceInfo:
        return self.inner.device

    @property
    def versions(self) -> Versions:
        return self.inner.versions

    @property
    def free(self) -> tuple[str, ...]:
        return self.inner.free

    @property
    def working(self) -> tuple[str, ...]:
        return self.inner.working

    @property
    def running(self) -> Any:
        return self.inner.running

    def hand_out(self, candidate: Candidate, device: str) -> None:
        if not self.begun_s:
            self.since_s, self.cpu_s = time.thread_time(), 0.0
        with self._timed():
            self.begun_s[candidate] = time.monotonic()
            self.inner.hand_out(candidate, device)

    def wait(self) -> None:
        with self._timed():
            self.inner.wait()

    def take(self) -> Finished | None:
        with self._timed():
            found = self.inner.take()
        if found is not None:
            self.ended_s[found.candidate] = time.monotonic()
            self.until_s = time.thread_time()
        return found

    def stop(self) -> tuple[Finished, ...]:
        return self.inner.stop()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        before_s = time.thread_time()
        yield
        self.cpu_s += time.thread_time() - before_s


def rows_of(candidates: int) -> StudyDefinition:
    """A study of so many rows, which no sampler chooses."""
    lines = [
        f"  - {{n_seq: {8 * (i // _BATCHES + 1)}, batch_size: {i % _BATCHES + 1}}}\n"
        for i in range(candidates)
    ]
    return parse_definition(_STUDY.format(rows="".join(lines)), "rates")


def measure_rate(
    root: Path, *, nodes: int, gpus_each: int, takes_s: float, candidates: int, storage: str | None
) -> Rate:
    """Search a study once all GPUs are ready. root: the run's folder. storage: URL of its database."""
    definition, gpus = rows_of(candidates), nodes * gpus_each
    with PretendedCluster(nodes, gpus_each) as cluster:
        place = Cluster(cluster.address, None)
        place.sight = FakeSight([f"--takes={takes_s}"])  # type: ignore[misc]
        job = Job(
            budget_bytes=_BUDGET_BYTES,
            reserve_bytes=0,
            root=root,
            timing=definition.timing,
            earlier=(),
            outside_bytes=0,
        )
        with (
            shared_study(storage, root, take_over=False, tell=print) as follower,
            place.opened(definition, begun_on=None, tell=print) as devices,
            devices.executor(job, print) as executor,
        ):
            while len(executor.working) < gpus:
                executor.wait()
                executor.take()
            timed = Timed(executor)
            run_search(
                definition,
                timed,
                root,
                budget_bytes=_BUDGET_BYTES,
                on_event=lambda event: None,
                follower=follower,
            )
    assert len(read_records(root / "records.jsonl")) == candidates
    return Rate(
        gpus=gpus,
        takes_s=takes_s,
        candidates=candidates,
        candidates_per_s=candidates / (max(timed.ended_s.values()) - min(timed.begun_s.values())),
        driver_cpu_ms=1000 * (timed.until_s - timed.since_s) / candidates,
        messages_cpu_ms=1000 * timed.cpu_s / candidates,
        messages_ms=1000 * (_middle(timed) - takes_s),
    )


def _middle(timed: Timed) -> float:
    took = [timed.ended_s[c] - begun_s for c, begun_s in timed.begun_s.items()]
    return statistics.median(took)
