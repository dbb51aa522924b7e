"""The frontier of a study: pure functions over its records, redrawn at any time without a GPU."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ..values.candidate import Candidate
from ..values.errors import UserInputError
from ..values.record import Record

_NEVER = datetime.min.replace(tzinfo=UTC)  # before any time that was noted


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A record that fits, with the three objectives: tokens/s ↑, peak bytes ↓, body parameters ↑.

    parameters: the exact count; body_parameters: without the position table, so that a longer sequence is no
    larger model. attempt_rates: tokens/s of each undisturbed attempt, oldest first; several where a candidate
    was measured again to tell it apart from others, and then the figures are those of all of them together.
    tokens_per_s_std: of the samples; None where the figures are predicted.
    """

    record: Record
    candidate: Candidate
    tokens_per_s: float
    tokens_per_s_std: float | None
    peak_bytes: int
    parameters: int
    body_parameters: int
    attempt_rates: tuple[float, ...] = ()

    def dominates(self, other: Point) -> bool:
        """At least as good in every objective and better in one."""
        mine = (self.tokens_per_s, -self.peak_bytes, self.body_parameters)
        others = (other.tokens_per_s, -other.peak_bytes, other.body_parameters)
        return mine != others and all(a >= b for a, b in zip(mine, others, strict=True))


def settle(records: Iterable[Record]) -> list[Record]:
    """The one record that counts for each candidate, ordered by candidate.

    Retries leave several records of one candidate: an undisturbed success wins, then any success, then the
    last attempt. Several undisturbed successes count together: the samples of all, the largest peak. The
    order of `records` does not matter.
    """
    return sorted((_merged(attempts) for attempts in _by_candidate(records)), key=_candidate_order)


def _by_candidate(records: Iterable[Record]) -> list[list[Record]]:
    """The records of each candidate, the most trusted first."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.digest, []).append(record)
    return [sorted(attempts, key=_trust, reverse=True) for attempts in found.values()]


def _undisturbed(attempts: Sequence[Record]) -> list[Record]:
    """The undisturbed successes, oldest first; of an attempt that was recorded twice only the later."""
    found: dict[int, Record] = {}
    for record in attempts:
        if record.fits and record.measurement.samples_s and not record.measurement.tainted:
            found.setdefault(record.attempt, record)
    return [found[attempt] for attempt in sorted(found)]


def _merged(attempts: Sequence[Record]) -> Record:
    """The record that counts of a candidate's records, the most trusted first."""
    several = _undisturbed(attempts)
    if len(several) < 2:
        return attempts[0]
    largest = max(several, key=lambda record: record.measurement.peak_bytes or 0)
    samples_s = tuple(sample_s for record in several for sample_s in record.measurement.samples_s)
    energies = [r.measurement.telemetry.energy_j for r in several if r.measurement.telemetry is not None]
    found: dict[str, object] = {"samples_s": samples_s}
    if largest.measurement.telemetry is not None:
        known = [energy_j for energy_j in energies if energy_j is not None]
        whole = sum(known) if len(known) == len(several) else None
        found["telemetry"] = largest.measurement.telemetry.model_copy(update={"energy_j": whole})
    return largest.model_copy(update={"measurement": largest.measurement.model_copy(update=found)})


def to_points(records: Iterable[Record]) -> list[Point]:
    """A point for each candidate that fits its budget, measured or predicted."""
    points = []
    attempts = {of_one[0].digest: of_one for of_one in _by_candidate(records)}
    for record in sorted(map(_merged, attempts.values()), key=_candidate_order):
        measurement, candidate = record.measurement, record.to_candidate()
        if not record.fits:
            continue
        rate = _rate(record)
        # A success without one of the objectives cannot be compared, so it cannot be on the frontier.
        body_parameters = measurement.body_parameters
        if measurement.peak_bytes is None or measurement.parameters is None or body_parameters is None:
            continue
        if rate is None:
            continue
        predicted = measurement.predicted
        if (predicted.peak_bytes_high if predicted else measurement.peak_bytes) > record.budget_bytes:
            continue
        mean, std = rate
        points.append(
            Point(
                record=record,
                candidate=candidate,
                tokens_per_s=mean,
                tokens_per_s_std=std,
                peak_bytes=measurement.peak_bytes,
                parameters=measurement.parameters,
                body_parameters=body_parameters,
                attempt_rates=tuple(
                    attempt.measurement.tokens_per_s(candidate.items_per_step)[0]
                    for attempt in _undisturbed(attempts[record.digest])
                ),
            )
        )
    return points


def find_frontier(points: Iterable[Point]) -> list[Point]:
    """The points that no other point dominates, by model size and then by throughput, largest first.

    Points of different modes do different work and are never compared. The order of `points` does not matter.
    """
    # A point comes after all that may dominate it, and whoever is dominated is so by one of the front.
    ordered = sorted(points, key=lambda p: (-p.tokens_per_s, p.peak_bytes, -p.body_parameters))
    front: list[Point] = []
    for point in ordered:
        if not any(q.dominates(point) for q in front if q.candidate.mode == point.candidate.mode):
            front.append(point)
    return sorted(
        front, key=lambda p: (p.candidate.mode, -p.body_parameters, -p.tokens_per_s, p.record.digest)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontierFilter:
    """Which configurations compete for the frontier; an empty collection lets all of them."""

    models: Collection[str] = ()
    n_seqs: Collection[int] = ()
    kernel_versions: Collection[str] = ()

    def select(self, points: Sequence[Point]) -> list[Point]:
        """The points that pass.

        Raises: UserInputError for a value that no measured configuration has.
        """
        for option, attribute, wanted in (
            ("--model", "model", self.models),
            ("--seq", "length", self.n_seqs),
            ("--version", "version", self.kernel_versions),
        ):
            present = {getattr(p.candidate, attribute) for p in points}
            for value in wanted:
                if value not in present:
                    known = ", ".join(str(v) for v in sorted(present))
                    raise UserInputError(
                        f"{option}: expected one of those that fit here ({known}), got {value}"
                    )
            points = [p for p in points if not wanted or getattr(p.candidate, attribute) in wanted]
        return list(points)


def _rate(record: Record) -> tuple[float, float | None] | None:
    measurement = record.measurement
    if measurement.predicted is not None:
        return measurement.predicted.tokens_per_s, None
    if measurement.samples_s:
        return measurement.tokens_per_s(record.to_candidate().items_per_step)
    return None


def _trust(record: Record) -> tuple[bool, bool, int, datetime, int]:
    clean = not record.measurement.tainted
    return record.fits, clean, record.attempt, record.started() or _NEVER, record.trial_number


def _candidate_order(record: Record) -> tuple[object, ...]:
    candidate = record.to_candidate()
    return (
        candidate.mode,
        candidate.workload,
        candidate.model,
        tuple(candidate.axes),  # alike within a workload, unless an older record lacks one
        tuple(candidate.axes.values()),
        candidate.batch_size,
        record.digest,
    )
