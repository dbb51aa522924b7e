"""One line of a run's journal: which candidate, under which budget, what was found."""

from __future__ import annotations

from typing import Any, Final, Literal

from .candidate import Candidate
from .measurement import Border, Measurement

RECORD_FORMAT_VERSION: Final = 1


class Record(Border):
    """A finished measurement, as written (and fsynced) to `records.jsonl` before Optuna is told.

    `trial_number` is Optuna's, `attempt` counts retries of the same candidate from 1 (0: rejected before
    launch, nothing was measured), `started_at` is UTC in ISO 8601.
    """

    format_version: Literal[1] = RECORD_FORMAT_VERSION
    digest: str
    candidate: dict[str, Any]
    trial_number: int
    attempt: int
    started_at: str
    budget_bytes: int
    measurement: Measurement

    def to_candidate(self) -> Candidate:
        return Candidate.from_dict(self.candidate)

    @property
    def fits(self) -> bool:
        return self.measurement.outcome == "ok"
