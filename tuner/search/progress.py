"""What a search tells while it runs and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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
class SearchEvent:
    """How far a search is, for a progress bar.

    `done` of `total` candidates were launched and are settled, whatever came out; `pruned` do not fit
    (launched or not), `failed` ended otherwise. `total` shrinks when candidates are rejected and the space
    gets smaller than the trials asked for. `running` is being measured, by the name of the device; `last` was
    just recorded.
    """

    done: int
    pruned: int
    failed: int
    total: int
    best_tokens_per_s: float | None
    running: Mapping[str, Candidate]
    last: Record | None
    seconds_left_estimate: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """How a search ended. `records` are those that count, one for each settled candidate, in order."""

    stop_reason: StopReason
    records: tuple[Record, ...]
    launched_now: int  # in this session, beside what the run already had
