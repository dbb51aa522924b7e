"""One line of a run's journal: which candidate, under which budget, what was found."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator

from .candidate import DEFAULT_WORKLOAD, Candidate
from .measurement import Border, Measurement
from .outcome import Outcome

RECORD_FORMAT_VERSION: Final = 6
_OF_OWN_ERRORS: Final = 5
_OF_OTHERS: Final = 4
"""What is written of other workloads than Phase 8, but of an outcome that earlier versions do not know."""
_OF_PHASE8: Final = 3
"""What is written where the workload is Phase 8: earlier versions read it, and know no other workload."""


_NEW_FIELDS: Final = {"optimizer_state", "master_weights", "gradient_accumulation"}
"""Of candidates that earlier versions refuse; recorded where they are away from their defaults."""
_NEW_WORDS: Final = ("selective",)


def _to_time(text: str) -> datetime | None:
    """Raises: ValueError for what is not in ISO 8601."""
    if not text:
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _checked_time(text: str) -> str:
    _to_time(text)
    return text


class Record(Border):
    """A finished measurement, as written (and fsynced) to `records.jsonl` before Optuna is told.

    `attempt`: which measuring of the candidate it was, from 1 over all sessions of the run; 0: nothing was
    measured, it was rejected before launch. `trial_number`: Optuna's, of the trial that was open then; the
    attempts of one session share a trial. `started_at`: UTC in ISO 8601 to the millisecond (to the second in
    earlier records), empty where it was not noted; times are compared by `started`, never as texts.
    """

    format_version: Literal[1, 2, 3, 4, 5, 6] = _OF_PHASE8
    digest: str
    candidate: dict[str, Any]
    trial_number: int
    attempt: int
    started_at: Annotated[str, AfterValidator(_checked_time)]
    budget_bytes: int
    measurement: Measurement

    def as_written(self) -> Record:
        """The record with the version of its format that earlier readers may know, and what they read."""
        candidate = self.to_candidate().identity()
        version = _OF_PHASE8 if self.candidate.get("workload") == DEFAULT_WORKLOAD else _OF_OTHERS
        if self.measurement.outcome is Outcome.OWN_ERROR:
            version = _OF_OWN_ERRORS
        if _NEW_FIELDS & candidate.keys() or candidate.get("gradient_checkpointing") in _NEW_WORDS:
            version = RECORD_FORMAT_VERSION
        return self.model_copy(update={"format_version": version, "candidate": candidate})

    def to_candidate(self) -> Candidate:
        return Candidate.from_dict(self.candidate)

    def started(self) -> datetime | None:
        """When it began; None where that was not noted."""
        return _to_time(self.started_at)

    @property
    def fits(self) -> bool:
        return self.measurement.outcome == "ok"
