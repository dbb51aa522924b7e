"""What a study knows so far: every record, ordered for the questions that the search asks of it."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from ..values.candidate import Candidate
from ..values.outcome import Outcome
from ..values.record import Record
from .frontier import Point, settle, to_points

MAX_ATTEMPTS = 3  # the first and two retries, where the outcome may be chance
MAX_TAINTED_ATTEMPTS = 2  # a laptop that throttles does so every time: one more try is what it gets

# Keys of `Measurement.memory_stats` that tell how much more would have been needed.
REQUESTED_BYTES = "requested_bytes"  # the allocation that failed
PREDICTED_PEAK_BYTES = "predicted_peak_bytes"  # of a candidate rejected before launch

# The caching allocator asks the driver for no less than this, so an allocation that failed for want of memory
# was short of at least as much as the budget lacked of one such segment.
_SMALLEST_SEGMENT_BYTES = 2 * 2**20
_TRIED_TO_ALLOCATE = re.compile(r"[Tt]ried to allocate ([0-9.]+) (bytes|KiB|MiB|GiB)")
_UNIT_BYTES = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Knowledge:
    """The records of a study, each attempt of each candidate, in the order they were made; and what of it is
    under way: begun in this session and not settled yet.

    Candidates are looked up as they are, not by their digests: the search asks of thousands at a time.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._attempts: dict[Candidate, list[Record]] = {}
        self._settled: dict[Candidate, Record] = {}
        self._points: dict[Candidate, Point] = {}
        self._owed: dict[Candidate, None] = {}  # in order
        self._under_way: set[Candidate] = set()
        self._first: dict[Candidate, Record] = {}  # that counted when it was settled
        self.repeated: list[Candidate] = []
        """Settled candidates that were measured again since, in order, as often as they were."""
        self._batches: dict[Candidate, list[int]] = {}  # by line, ascending: settled or under way
        self._smallest_over: dict[Candidate, tuple[int, Record]] = {}
        self._largest_fit: dict[Candidate, tuple[int, Record]] = {}
        self._disqualified: dict[tuple[str, str], Record] = {}  # by workload and version
        self.launched = 0  # settled candidates that were measured, not rejected before
        self.rejected = 0
        self.pruned = 0  # do not fit, launched or not
        self.failed = 0
        self.best_tokens_per_s: float | None = None
        for record in records:
            self.add(record)

    def begin(self, candidate: Candidate) -> None:
        """Note that a candidate is being measured, until it is settled.

        Raises: ValueError for one that is not available: it would be measured twice.
        """
        if not self.is_available(candidate):
            raise ValueError(f"{candidate.describe()} was proposed although it is settled or under way")
        self._under_way.add(candidate)
        self._note_batch(candidate)

    def begin_again(self, candidate: Candidate) -> None:
        """Note that a settled candidate is measured once more, until that ends.

        Raises: ValueError for one that is not settled, or under way.
        """
        if candidate not in self._settled or candidate in self._under_way:
            raise ValueError(f"{candidate.describe()} was proposed again although it is not settled")
        self._under_way.add(candidate)

    def end_again(self, candidate: Candidate) -> None:
        """Note that a candidate is not measured once more now: that has ended, with a record or without."""
        if candidate in self._settled:
            self._under_way.discard(candidate)

    def is_under_way(self, candidate: Candidate) -> bool:
        """Whether a candidate is being measured."""
        return candidate in self._under_way

    def add(self, record: Record) -> None:
        """Take in one more record."""
        candidate = record.to_candidate()
        attempts = self._attempts.setdefault(candidate, [])
        attempts.append(record)
        if candidate in self._settled:
            self._under_way.discard(candidate)
            self.repeated.append(candidate)
            self._settled[candidate] = settle(attempts)[0]
            self._note_points(candidate)
        elif _is_final(attempts):
            self._owed.pop(candidate, None)
            self._under_way.discard(candidate)
            self._settle(candidate, settle(attempts)[0])
        else:
            self._owed[candidate] = None
        if record.attempt > 0:  # a rejected one was implied by other records and implies nothing itself
            self._learn(candidate, record)

    def _settle(self, candidate: Candidate, record: Record) -> None:
        self._settled[candidate] = self._first[candidate] = record
        self._note_batch(candidate)
        self.launched += record.attempt > 0
        self.rejected += record.attempt == 0
        self.pruned += record.measurement.outcome.is_memory
        self.failed += not record.fits and not record.measurement.outcome.is_memory
        self._note_points(candidate)

    def _note_batch(self, candidate: Candidate) -> None:
        batches = self._batches.setdefault(candidate.line(), [])
        place = bisect_left(batches, candidate.batch_size)
        if batches[place : place + 1] != [candidate.batch_size]:
            batches.insert(place, candidate.batch_size)

    def _note_points(self, candidate: Candidate) -> None:
        for point in to_points(self._attempts[candidate]):
            self._points[candidate] = point
            self.best_tokens_per_s = max(point.tokens_per_s, self.best_tokens_per_s or 0.0)

    def _learn(self, candidate: Candidate, record: Record) -> None:
        line, batch, outcome = candidate.line(), candidate.batch_size, record.measurement.outcome
        if outcome.is_memory and batch < self._smallest_over.get(line, (math.inf,))[0]:
            self._smallest_over[line] = batch, record
        if outcome is Outcome.OK and batch > self._largest_fit.get(line, (0,))[0]:
            self._largest_fit[line] = batch, record
        if outcome is Outcome.WRONG_RESULT:
            self._disqualified.setdefault((candidate.workload, candidate.version), record)

    def attempts(self, candidate: Candidate) -> tuple[Record, ...]:
        """All records of a candidate, oldest first."""
        return tuple(self._attempts.get(candidate, ()))

    def is_settled(self, candidate: Candidate) -> bool:
        """Whether nothing more is to be measured of a candidate."""
        return candidate in self._settled

    def is_available(self, candidate: Candidate) -> bool:
        """Whether a candidate is neither settled nor under way."""
        return candidate not in self._settled and candidate not in self._under_way

    @property
    def under_way(self) -> int:
        """How many candidates are under way that are not settled."""
        return sum(candidate not in self._settled for candidate in self._under_way)

    def record_of(self, candidate: Candidate) -> Record:
        """The record that counts for a settled candidate.

        Raises: KeyError where it is not settled.
        """
        return self._settled[candidate]

    def point_of(self, candidate: Candidate) -> Point | None:
        """A settled candidate with its objectives; None where it does not fit, or lacks one of them."""
        return self._points.get(candidate)

    @property
    def settled(self) -> tuple[Record, ...]:
        """The record that counts of every settled candidate, in the order in which they were settled."""
        return tuple(self._settled.values())

    @property
    def first_settled(self) -> tuple[Record, ...]:
        """As `settled`, without what was measured again later."""
        return tuple(self._first.values())

    def owed(self) -> Candidate | None:
        """A candidate that a retry is owed, because the driver ended between two attempts."""
        return next((candidate for candidate in self._owed if candidate not in self._under_way), None)

    def batches(self, line: Candidate) -> Sequence[int]:
        """The batches of a line that are settled or under way, ascending."""
        return self._batches.get(line, ())

    def smallest_over(self, line: Candidate) -> int | None:
        """The smallest measured batch of a line that did not fit; None where all did."""
        return self._smallest_over[line][0] if line in self._smallest_over else None

    def largest_fit(self, line: Candidate) -> int | None:
        """The largest measured batch of a line that fits; None where none did."""
        return self._largest_fit[line][0] if line in self._largest_fit else None

    def smaller_batch_over_budget(self, candidate: Candidate) -> Record | None:
        """A measured candidate that did not fit and differs only in a batch that is not larger."""
        batch, record = self._smallest_over.get(candidate.line(), (math.inf, None))
        return record if batch <= candidate.batch_size else None

    def disqualification_of(self, candidate: Candidate) -> Record | None:
        """The measurement in which a kernel version failed its correctness check."""
        return self._disqualified.get((candidate.workload, candidate.version))

    def violation(self, record: Record) -> float:
        """How far over the budget a record is, as a share of it: ≤ 0 fits, > 0 does not.

        It is (peak − budget)/budget where that is known. Where memory ran out under a cap the peak stays
        below the budget, so what was asked for on top counts; where that is unknown too, the peak is
        extrapolated in proportion to the batch from the largest that fits (an upper bound, as memory is
        affine in the batch); the least is one segment of the allocator.
        """
        measurement, budget = record.measurement, record.budget_bytes
        if not measurement.outcome.is_memory:
            peak = measurement.peak_bytes
            return 0.0 if peak is None else (peak - budget) / budget
        needed = [budget + _SMALLEST_SEGMENT_BYTES]
        needed.append(measurement.memory_stats.get(PREDICTED_PEAK_BYTES, 0))
        needed.append((measurement.peak_bytes or 0) + _requested_bytes(record))
        if max(needed[1:]) <= budget:
            candidate = record.to_candidate()
            batch, fit = self._largest_fit.get(candidate.line(), (0, None))
            if fit is not None and fit.measurement.peak_bytes is not None:
                needed.append(math.ceil(fit.measurement.peak_bytes * candidate.batch_size / batch))
        return (max(needed) - budget) / budget


def _is_final(attempts: list[Record]) -> bool:
    last = attempts[-1]
    launched = len(attempts)
    if last.attempt == 0:
        return True
    if last.measurement.outcome.is_retried:
        return launched >= MAX_ATTEMPTS or _is_same_error(attempts[-2:])
    if last.fits and last.measurement.tainted:
        return launched >= MAX_TAINTED_ATTEMPTS
    return True


def _is_same_error(attempts: list[Record]) -> bool:
    """Whether two attempts after each other failed with the same words, which is no chance."""
    found = {(record.measurement.outcome, record.measurement.message) for record in attempts}
    return len(attempts) == 2 and len(found) == 1 and attempts[0].measurement.outcome is Outcome.ERROR


def _requested_bytes(record: Record) -> int:
    stated = record.measurement.memory_stats.get(REQUESTED_BYTES)
    if stated is not None:
        return stated
    found = _TRIED_TO_ALLOCATE.search(record.measurement.message)
    return math.ceil(float(found[1]) * _UNIT_BYTES[found[2]]) if found else 0
