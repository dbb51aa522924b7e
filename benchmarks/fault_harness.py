"""Studies with faults in them, and the account afterwards: records lost, records double, processes left."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import optuna

from ..tuner.measuring.pool import LocalExecutor
from ..tuner.measuring.worker_measurer import WorkerMeasurer
from ..tuner.records.database import open_sqlite
from ..tuner.records.journal import read_records
from ..tuner.records.knowledge import Knowledge
from ..tuner.search.progress import StopReason
from ..tuner.search.search import run_search
from ..tuner.study.definition import StudyDefinition, parse_definition
from ..tuner.values.candidate import Candidate
from ..tuner.values.errors import DeviceError
from ..tuner.values.measurement import DeviceInfo, Measurement, Versions
from ..tuner.values.outcome import Outcome
from ..tuner.values.record import Record
from .fault_processes import leftovers

FAKES = Path(__file__).parents[1] / "tests" / "fakes"
TAINTED = " (tainted)"
_GOOD = frozenset({"ok", "plain", "progress", "slow"})
_ROW = "  - {{model: nano, n_seq: {n_seq}, batch_size: 1}}\n"
_STUDY = """\
name: faults
defaults: {{kernel_version: reference, gradient_checkpointing: false, mixed_precision: none}}
rows:
{rows}timing: {{warmup: 1, iterations: 5, timeout_s: {timeout_s}}}
"""

Plan = Sequence[Sequence[str]]
"""For every row what its attempts do, the last repeated: what the fakes of the tests call `model`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What a case did, and what was left of it.

    in_flight: measured, but their driver was killed before they were written down; such a one is no record,
    and is measured again.
    """

    case: str
    worker: str
    injected: int
    outcomes: dict[str, int]
    records: int
    lost: int
    doubled: int
    left_behind: int
    unfinished: int
    in_flight: int = 0
    unexpected: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.left_behind or self.unfinished or self.unexpected)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(**(data | {"unexpected": tuple(data["unexpected"])}))


@dataclass(kw_only=True, slots=True)
class FaultyMeasurer:
    """A real measurer, asked for what the plan says in place of each candidate.

    Every measurement is written down, on the disk, before the search sees it.
    """

    inner: WorkerMeasurer
    plan: Plan
    noted: Path
    before: Callable[[str], None] = lambda how: None
    attempts: Counter[str] = field(default_factory=Counter)
    misbehaved: int = 0

    def __post_init__(self) -> None:
        self.attempts.update(notes(self.noted))

    @property
    def device(self) -> DeviceInfo:
        return self.inner.device

    @property
    def versions(self) -> Versions:
        return self.inner.versions

    def worker_pid(self) -> int | None:
        return self.inner.worker_pid()

    def measure(self, candidate: Candidate) -> Measurement:
        digest = candidate.digest()
        hows = self.plan[row_of(candidate)]
        how = hows[min(self.attempts[digest], len(hows) - 1)]
        self.before(how)
        found = self.inner.measure(candidate.changed(workload="workloads:RUNS", model=how, n_seq=8))
        self.attempts[digest] += 1
        self.misbehaved += how.partition(":")[0] not in _GOOD
        with self.noted.open("a", encoding="utf-8") as noted:
            noted.write(f"{digest}\n")
            noted.flush()
            os.fsync(noted.fileno())
        return found

    def stop(self) -> None:
        self.inner.stop()

    def close(self) -> None:
        self.inner.close()


def row_of(candidate: Candidate) -> int:
    """Which row of `study_text` a candidate is."""
    return candidate.n_seq // 8 - 1


def study_text(rows: int, timeout_s: float = 60.0) -> str:
    """The definition of a study with so many rows, as YAML."""
    lines = "".join(_ROW.format(n_seq=8 * (i + 1)) for i in range(rows))
    return _STUDY.format(rows=lines, timeout_s=timeout_s)


def study_of(rows: int) -> StudyDefinition:
    return parse_definition(study_text(rows), "faults")


def notes(path: Path) -> list[str]:
    """The digests of all that was measured, in order."""
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def run_case(
    case: str,
    folder: Path,
    plan: Plan,
    make: Callable[[Path], WorkerMeasurer],
    *,
    worker: str,
    budget_bytes: int,
    injected: int | None = None,
    expected: dict[str, Outcome] | None = None,
    before: Callable[[str], None] = lambda how: None,
) -> Tally:
    """Run a whole study whose rows do what the plan says, and account for it.

    make: the measurer from its log folder. injected: how many faults; None: the attempts that misbehave.
    expected: the outcome of the first attempt that does this.
    """
    started_s = time.monotonic()
    run, noted = folder / "run", folder / "noted"
    folder.mkdir(parents=True)
    misbehaved = finish_study(
        run,
        lambda: FaultyMeasurer(inner=make(folder), plan=plan, noted=noted, before=before),
        len(plan),
        budget_bytes,
    )
    records = read_records(run / "records.jsonl")
    wrong = []
    for record in records:
        how = plan[row_of(record.to_candidate())][0]
        wanted = (expected or {}).get(how)
        if record.attempt == 1 and wanted is not None and record.measurement.outcome is not wanted:
            wrong.append(f"{how}: expected {wanted}, got {record.measurement.outcome}")
    return account(
        case,
        run,
        notes(noted),
        rows=len(plan),
        worker=worker,
        injected=misbehaved if injected is None else injected,
        unexpected=wrong,
        started_s=started_s,
    )


def finish_study(run: Path, make: Callable[[], FaultyMeasurer], rows: int, budget_bytes: int) -> int:
    """Search until every row is settled; go on, as a user would, where no worker started several times.

    Returns how many measurements misbehaved.
    """
    misbehaved = 0
    while True:
        measurer = make()
        try:
            with LocalExecutor({"device": measurer}, on_loss=lambda text: None) as pool:
                result = run_search(
                    study_of(rows), pool, run, budget_bytes=budget_bytes, on_event=lambda event: None
                )
        except DeviceError:
            continue
        finally:
            misbehaved += measurer.misbehaved
        if result.stop_reason is StopReason.EXHAUSTED:
            return misbehaved


def account(
    case: str,
    run: Path,
    measured: Sequence[str],
    *,
    rows: int,
    worker: str,
    injected: int,
    unexpected: Sequence[str] = (),
    lost: int | None = None,
    started_s: float,
) -> Tally:
    """What is left of a finished study.

    measured: the digest of every measurement that was made. lost: of the records that were on the disk
    before a driver was killed, those that are not there now; None where no driver was killed: then every
    measurement must be a record.
    """
    records = read_records(run / "records.jsonl")
    written = Counter(record.digest for record in records if record.attempt > 0)
    missing = sum((Counter(measured) - written).values())
    repeated = Counter((record.digest, record.attempt) for record in records)
    doubled = sum(count - 1 for count in repeated.values())
    doubled += sum((written - Counter(measured)).values()) + _told_twice(run, records)
    knowledge = Knowledge(records)
    left = [*leftovers()]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return Tally(
        case=case,
        worker=worker,
        injected=injected,
        outcomes=dict(Counter(map(_ending, records))),
        records=len(records),
        lost=missing if lost is None else lost,
        doubled=doubled,
        left_behind=len(left),
        unfinished=rows - len(knowledge.settled),
        in_flight=0 if lost is None else missing,
        unexpected=tuple(unexpected),
        seconds=time.monotonic() - started_s,
    )


def _ending(record: Record) -> str:
    return f"{record.measurement.outcome}{TAINTED if record.measurement.tainted else ''}"


def _told_twice(run: Path, records: Sequence[Record]) -> int:
    """How far the Optuna study is from one finished trial for every settled candidate."""
    trials = optuna.load_study(study_name="faults", storage=open_sqlite(run / "study.db")).trials
    told = Counter(
        str(trial.user_attrs["digest"])
        for trial in trials
        if "outcome" in trial.user_attrs and "duplicate_of_trial" not in trial.user_attrs
    )
    settled = Counter({record.digest: 1 for record in records})
    running = sum(not trial.state.is_finished() for trial in trials)
    return running + sum((told - settled).values()) + sum((settled - told).values())
