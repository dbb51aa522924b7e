"""Records of what a benchmark measured, for what works on records."""

from __future__ import annotations

from ..tuner.values.candidate import Candidate
from ..tuner.values.measurement import Measurement
from ..tuner.values.record import Record


def record_of(candidate: Candidate, measurement: Measurement, *, number: int, budget_bytes: int) -> Record:
    """The record of a first attempt; number: of its trial."""
    return Record(
        digest=candidate.digest(),
        candidate=candidate.identity(),
        trial_number=number,
        attempt=1,
        started_at="",
        budget_bytes=budget_bytes,
        measurement=measurement,
    )
