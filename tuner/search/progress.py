"""What a search tells while it runs and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..study.definition import SearchSettings
from ..values.candidate import Candidate
from ..values.record import Record


class StopReason(StrEnum):
    """Why a search ended."""

    TRIALS = "trials"
    TIME = "time"
    STALLED = "stalled"
    EXHAUSTED = "exhausted"
    INTERRUPTED = "interrupted"

    @property
    def sentence(self) -> str:
        """For people, without a full stop."""
        return {
            StopReason.TRIALS: "all trials asked for are done",
            StopReason.TIME: "the time is up",
            StopReason.STALLED: "the frontier has stopped growing",
            StopReason.EXHAUSTED: "every candidate is settled",
            StopReason.INTERRUPTED: "interrupted; what was measured is kept",
        }[self]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchLimits:
    """When a search ends; None: no such limit.

    `trials` counts candidates launched, those of earlier sessions of the run too; `time_limit_s` is of this
    session. The search has stalled when the hypervolume grew by less than the share `stall_growth` over the
    last `stall_measurements`.
    """

    trials: int | None = None
    time_limit_s: float | None = None
    stall_measurements: int | None = None
    stall_growth: float = 0.0

    @classmethod
    def from_settings(cls, settings: SearchSettings) -> SearchLimits:
        """The limits that a study definition states."""
        stall = settings.stall
        return cls(
            trials=settings.trials,
            time_limit_s=settings.time_limit_s,
            stall_measurements=stall.measurements if stall else None,
            stall_growth=stall.growth if stall else 0.0,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchEvent:
    """How far a search is, for a progress bar.

    `done` of `total` candidates were launched and are settled, whatever came out; `pruned` do not fit
    (launched or not), `failed` ended otherwise. `total` shrinks when candidates are rejected and the space
    gets smaller than the trials asked for. `running` is being measured, on one device each; `last` was just
    recorded.
    """

    done: int
    pruned: int
    failed: int
    total: int
    best_tokens_per_s: float | None
    running: tuple[Candidate, ...]
    last: Record | None
    seconds_left_estimate: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """How a search ended. `records` are those that count, one for each settled candidate, in order."""

    stop_reason: StopReason
    records: tuple[Record, ...]
    launched_now: int  # in this session, beside what the run already had
