"""A run's files while it goes on: what is recommended, the report, and what is told where a disk is full."""

from __future__ import annotations

import csv
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phase8_tune.tuner.predict.outlook import Outlook, Prediction, Rate
from phase8_tune.tuner.predict.rate.profiles import gpu_profile
from phase8_tune.tuner.report.early import EarlyOutputs, Expected
from phase8_tune.tuner.report.facts import RunFacts
from phase8_tune.tuner.training import recommended
from phase8_tune.tuner.training.settings import load_settings
from phase8_tune.tuner.values.atomic_write import write_atomically
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import LedgerLine
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record
from phase8_tune.tuner.values.timing import Timing
from phase8_tune.tuner.workloads.settings import TrainingSettings

from .report_records import BUDGET_BYTES, GPU, VERSIONS, make_candidate, make_record

PROFILE = gpu_profile("rtx-3080-laptop")
EVERY_S = 10.0


class Early:
    """Outputs in a folder, by a clock that stands still until a test moves it."""

    def __init__(self, folder: Path, expected: Expected | None = None, *earlier: Record) -> None:
        self.folder, self.now_s = folder, 100.0
        self.told: list[str] = []
        facts = RunFacts(
            run_root=folder,
            study_name="tiny",
            budget_bytes=BUDGET_BYTES,
            reserve_bytes=0,
            device=GPU,
            versions=VERSIONS,
            timing=Timing(),
            command="phase8-tune",
        )
        self.take: Callable[..., None] = EarlyOutputs(
            facts, earlier, expected, self.told.append, lambda: self.now_s
        )

    def settings(self, model: str) -> TrainingSettings:
        return load_settings(self.folder / "recommended" / f"{model}.yaml")

    @property
    def digests_in_table(self) -> list[str]:
        with (self.folder / "trials.csv").open(encoding="utf-8", newline="") as file:
            return [row["digest"] for row in csv.DictReader(file)]


def expectation() -> Expected:
    return Expected(PROFILE, BUDGET_BYTES, "2026-01-01T00:00:00+00:00")


def outlook(candidate: Candidate, tokens_per_s: float) -> Outlook:
    prediction = Prediction(
        candidate=candidate,
        gpu=PROFILE.name,
        budget_bytes=BUDGET_BYTES,
        parameters=1,
        body_parameters=1,
        ledger=(LedgerLine(name="all", size_bytes=1 << 30, source="predicted: made up"),),
        peak_bytes=1 << 30,
        peak_allocated_bytes=1 << 29,
        peak_reserved_bytes=1 << 29,
        peak_op="made up",
        peak_phase="forward",
        fits=True,
        tokens_per_s=Rate(low=tokens_per_s / 2, expected=tokens_per_s, high=tokens_per_s * 2),
        limited_by="arithmetic",
    )
    batches = (candidate.batch_size,)
    return Outlook(
        line=candidate.line(), batches=batches, largest=batches[0], rungs={}, recommended=prediction
    )


def measured(batch_size: int, tokens_per_s: float, **changes: Any) -> Record:
    return make_record(make_candidate(batch_size=batch_size), tokens_per_s=tokens_per_s, **changes)


def test_a_file_appears_with_the_first_measurement_and_only_a_better_one_replaces_it(tmp_path: Path) -> None:
    early = Early(tmp_path)
    early.take(None)
    early.take(measured(64, 1.0, outcome=Outcome.OOM, peak_bytes=None))
    assert not (tmp_path / "recommended").exists() or not list((tmp_path / "recommended").iterdir())
    early.take(measured(4, 1000.0, trial_number=1))
    assert early.settings("small").batch_size == 4
    before = (tmp_path / "recommended" / "small.yaml").stat()
    early.now_s += EVERY_S / 2
    early.take(measured(2, 999.0, trial_number=2))
    after = (tmp_path / "recommended" / "small.yaml").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)  # not written again
    early.take(measured(8, 1001.0, trial_number=3))
    assert early.settings("small").batch_size == 8
    assert not early.told


def test_what_earlier_sessions_measured_counts(tmp_path: Path) -> None:
    early = Early(tmp_path, None, measured(4, 1000.0))
    early.take(measured(2, 500.0, trial_number=1))
    assert early.settings("small").batch_size == 4


def test_where_nothing_is_measured_it_is_predicted(tmp_path: Path) -> None:
    """The likely fastest; a measurement takes its place, be it slower, and of its own model alone."""
    early = Early(tmp_path, expectation())
    small, medium = make_candidate(batch_size=4), make_candidate(model="medium", batch_size=2)
    early.take(None, [outlook(small, 1000.0), outlook(medium, 300.0)])
    assert early.settings("small").predicted is not None
    early.take(None, [outlook(make_candidate(batch_size=8), 999.0)])
    assert early.settings("small").batch_size == 4
    early.take(None, [outlook(make_candidate(batch_size=16), 1001.0)])
    assert early.settings("small").batch_size == 16
    early.take(measured(2, 10.0), [outlook(make_candidate(batch_size=32), 9999.0)])
    assert (early.settings("small").batch_size, early.settings("small").predicted) == (2, None)
    assert early.settings("small").measured is not None
    assert (early.settings("medium").batch_size, early.settings("medium").measured) == (2, None)


def test_a_line_that_may_not_be_recommended_unmeasured_is_not(tmp_path: Path) -> None:
    line = make_candidate().line()
    early = Early(tmp_path, expectation())
    early.take(None, [Outlook(line=line, batches=(4,), largest=4, rungs={})])
    assert not (tmp_path / "recommended").exists()


def test_the_report_is_written_at_most_every_ten_seconds(tmp_path: Path) -> None:
    early = Early(tmp_path)
    records = [measured(batch, 1000.0 + batch, trial_number=batch) for batch in (1, 2, 4)]
    early.take(records[0])
    assert early.digests_in_table == [records[0].digest]
    early.now_s += EVERY_S - 0.001
    early.take(records[1])
    assert early.digests_in_table == [records[0].digest]
    assert early.settings("small").batch_size == 2  # which does not wait
    early.now_s += 0.001
    early.take(records[2])
    assert early.digests_in_table == [record.digest for record in records]
    assert "small" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_disk_that_is_full_is_told_once_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    early = Early(tmp_path)
    monkeypatch.setattr(recommended, "write_atomically", full)
    early.take(measured(1, 1000.0))
    early.take(measured(2, 2000.0, trial_number=1))
    (told,) = early.told
    assert "cannot write the recommendations: No space left on device" in told
    assert not list((tmp_path / "recommended").iterdir())
    monkeypatch.setattr(recommended, "write_atomically", write_atomically)
    early.take(None)  # there is room again: nothing of it is lost
    assert early.settings("small").batch_size == 2
    assert len(early.digests_in_table) == 2
    assert len(early.told) == 1
