"""What a trial of the Optuna study is told of a record: state, values, constraint, attributes."""

from __future__ import annotations

from typing import Any

from optuna.trial import TrialState

from ..values.record import Record
from .frontier import Point
from .knowledge import Knowledge

DIGEST = "digest"
OUTCOME = "outcome"
"""Names of attributes: a trial is known by the one, and has been told where it has the other."""
_CONSTRAINT = "vram"


def state_and_values(record: Record, point: Point | None) -> tuple[TrialState, list[float] | None]:
    """COMPLETE with the three objectives of a point, PRUNED where it does not fit, FAIL otherwise."""
    if point is not None:
        values = [point.tokens_per_s, float(point.peak_bytes), float(point.body_parameters)]
        return TrialState.COMPLETE, values
    return (TrialState.PRUNED if record.measurement.outcome.is_memory else TrialState.FAIL), None


def constraints(record: Record, knowledge: Knowledge) -> dict[str, float]:
    """The share of the budget by which a record is over it; none where it was not about memory."""
    outcome = record.measurement.outcome
    return {_CONSTRAINT: knowledge.violation(record)} if record.fits or outcome.is_memory else {}


def attributes(record: Record, point: Point | None, *, is_repeated: bool) -> dict[str, Any]:
    """What a trial carries besides its values: PRUNED ones have none, so the figures are here too.

    `attempt` is the record's, of all that the candidate had: a trial has no attempts of its own.
    is_repeated: another trial, that of the record, was told this before.
    """
    measurement = record.measurement
    found: dict[str, Any] = {
        DIGEST: record.digest,
        "configuration": record.to_candidate().describe(),
        "candidate": record.candidate,
        "attempt": record.attempt,
        "message": measurement.message,
        "peak_bytes": measurement.peak_bytes,
        "parameters": measurement.parameters,
        "body_parameters": measurement.body_parameters,
    }
    found["basis"] = "measured" if measurement.predicted is None else "predicted"
    if point is not None:
        found |= {"tokens_per_s": point.tokens_per_s, "tokens_per_s_std": point.tokens_per_s_std}
    if is_repeated:
        found["duplicate_of_trial"] = record.trial_number
    # Last: a trial that has it has everything.
    return found | {OUTCOME: str(measurement.outcome)}
