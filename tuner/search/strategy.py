"""The seams of the search: who proposes the next candidate, and who may reject one before it is launched."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from ..records.knowledge import PREDICTED_PEAK_BYTES, Knowledge
from ..values.candidate import Candidate
from ..values.measurement import DeviceInfo, Measurement
from ..values.outcome import Outcome


class Strategy(Protocol):
    """Proposes what to measure next in one search, until nothing is left that may be launched."""

    @property
    def has_plan(self) -> bool:
        """Whether the last proposal was something particular: then the search has not stalled."""
        ...

    @property
    def is_repeat(self) -> bool:
        """Whether the last proposal is settled and is to be measured once more."""
        return False

    @property
    def left(self) -> int | None:
        """How many are still to be proposed at most; None where there is no such plan."""
        return None

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        """A candidate that is available (neither settled nor under way), or None where none is left.

        `is_open` is false for candidates that are not available or would be rejected. One that would be
        rejected may be proposed: the rejection is then recorded, and whoever learns from records learns it.
        With several devices it is asked again when one that is under way has ended. `knowledge` is the same
        every time and has only grown since the last.
        """
        ...


class Preparation(Protocol):
    """Makes candidates ready beside what is measured, so that their measurement begins at once."""

    def compile_ahead(self, candidates: Sequence[Candidate]) -> None:
        """Begin with these, the first first, and return."""
        ...

    def wait(self, candidates: Sequence[Candidate], timeout_s: float) -> bool:
        """Wait until all of these are ready; whether that came in time."""
        ...

    def first_ready(self, candidates: Sequence[Candidate], timeout_s: float) -> Candidate | None:
        """Wait until any of these is ready; the first of those that are, None where none was in time."""
        ...

    def wait_for_check(self, candidate: Candidate, timeout_s: float) -> bool:
        """Wait until the check of a candidate's version can begin, which comes first; as `wait`."""
        ...


PREPARED = 12
"""So many that come next are made ready at a time."""
_WAIT_S = 60.0
"""How long the next is waited for; where it takes longer its worker does what is missing."""


def make_ready(candidate: Candidate, following: Iterable[Candidate], preparation: Preparation | None) -> None:
    """Wait until a candidate can be measured at once; those that follow are begun with."""
    if preparation is not None:
        preparation.compile_ahead([candidate, *islice(following, PREPARED)])
        preparation.wait([candidate], _WAIT_S)


class RowOrder(Strategy):
    """The rows of a definition, in their order."""

    has_plan = False

    def __init__(self, rows: Sequence[Candidate], preparation: Preparation | None = None) -> None:
        self._rows = deque(rows)  # without those at the beginning that are settled
        self._preparation = preparation

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        while self._rows and knowledge.is_settled(self._rows[0]):
            self._rows.popleft()
        available = (row for row in self._rows if knowledge.is_available(row))
        row = next(available, None)
        if row is not None and is_open(row):  # one that is rejected needs no kernels
            make_ready(row, available, self._preparation)
        return row


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Why a candidate is not launched; `predicted_peak_bytes` where the outcome is about memory."""

    outcome: Outcome
    message: str
    predicted_peak_bytes: int | None = None

    def to_measurement(self, device: DeviceInfo) -> Measurement:
        """What is recorded of a candidate that is not launched on a device."""
        peak_bytes = self.predicted_peak_bytes
        return Measurement(
            outcome=self.outcome,
            message=self.message,
            device=device,
            memory_stats={} if peak_bytes is None else {PREDICTED_PEAK_BYTES: peak_bytes},
        )


class CandidateFilter(Protocol):
    """May reject a candidate before launch: a rule, or a predictor."""

    def reject(self, candidate: Candidate, knowledge: Knowledge) -> Rejection | None:
        """The reason not to launch the candidate, which holds for the whole search; None to let it pass."""
        ...


class LargerBatchRule(CandidateFilter):
    """What does not fit does not fit with a larger batch either, all else equal."""

    def reject(self, candidate: Candidate, knowledge: Knowledge) -> Rejection | None:
        over = knowledge.smaller_batch_over_budget(candidate)
        if over is None:
            return None
        measured = over.to_candidate()
        # In proportion to the batch: an upper bound, as memory is affine in it; larger batches rank worse.
        needed_bytes = (1 + knowledge.violation(over)) * over.budget_bytes
        return Rejection(
            outcome=Outcome.PREDICTED_OVER_BUDGET,
            message=f"not launched: {measured.describe()} ({over.digest}, trial {over.trial_number}) "
            f"ended as {over.measurement.outcome} with a batch of {measured.batch_size}",
            predicted_peak_bytes=math.ceil(needed_bytes * candidate.batch_size / measured.batch_size),
        )


class DisqualifiedVersionRule(CandidateFilter):
    """A kernel version that gave a wrong result on this device is not used for the rest of the study."""

    def reject(self, candidate: Candidate, knowledge: Knowledge) -> Rejection | None:
        wrong = knowledge.disqualification_of(candidate)
        if wrong is None:
            return None
        return Rejection(
            outcome=Outcome.WRONG_RESULT,
            message=f"not launched: version {candidate.version} gave a wrong result in {wrong.digest} "
            f"(trial {wrong.trial_number})",
        )


DEFAULT_FILTERS: tuple[CandidateFilter, ...] = (DisqualifiedVersionRule(), LargerBatchRule())
