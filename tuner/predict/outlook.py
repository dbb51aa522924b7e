"""What is expected of a line's batches: which fit, and what any of them takes and does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace

from ..values.candidate import Candidate
from ..values.measurement import LedgerLine
from .rate.throughput import SPREAD, LimitedBy, StepEstimate
from .trace.events import Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """Predicted tokens a second, in an interval that should hold nine of ten."""

    low: float
    expected: float
    high: float

    @classmethod
    def of(cls, candidate: Candidate, step: StepEstimate) -> Rate:
        """Of a candidate's tokens in an estimated step."""
        tokens, step_s = candidate.items_per_step, step.step_s
        return cls(low=tokens / (step_s * SPREAD), expected=tokens / step_s, high=tokens / (step_s / SPREAD))


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What a search needs to know of a candidate before it is launched.

    is_over: it does not fit by the rule that was asked. step: its roofline.
    peak_bytes: of the whole process, at least: with what is outside of torch's allocator.
    """

    is_over: bool
    peak_bytes: int
    tokens_per_s: Rate
    step: StepEstimate

    @property
    def limited_by(self) -> LimitedBy:
        return self.step.limited_by


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What one candidate would take of a card, line by line, and how fast it would be.

    peak_bytes: of the whole process, the ledger's sum. peak_op, peak_phase: the allocation at the peak.
    body_parameters: without the position table. fits: whether it may be recommended for the budget
    (`fits.RECOMMEND`).
    """

    candidate: Candidate
    gpu: str
    budget_bytes: int
    parameters: int
    body_parameters: int
    ledger: tuple[LedgerLine, ...]
    peak_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    peak_op: str
    peak_phase: Phase
    fits: bool
    tokens_per_s: Rate
    limited_by: LimitedBy


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """What was predicted of one batch: the bytes of the whole process, at least, and the roofline."""

    peak_bytes: int
    step: StepEstimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """The batches of a line on a card.

    batches: those that are allowed, ascending. largest: the largest of them that fits by the rule that was
    asked, 0 where none does. rungs: by batch, ascending, at least the smallest. recommended: the whole
    prediction of the largest of the rounder batches that may be recommended unmeasured, None where none may.
    body_parameters: of its model; None where that was not asked for.
    """

    line: Candidate
    batches: Sequence[int]
    largest: int
    rungs: Mapping[int, Rung]
    recommended: Prediction | None = None
    body_parameters: int | None = None

    @property
    def fitting(self) -> Sequence[int]:
        """The allowed batches that fit."""
        return self.batches[: bisect_left(self.batches, self.largest + 1)]

    def forecast(self, batch: int) -> Forecast:
        """Of any batch: between two rungs bytes and seconds are straight, beyond the last they go on so."""
        rung = self._between(batch)
        return Forecast(
            is_over=batch > self.largest,
            peak_bytes=rung.peak_bytes,
            tokens_per_s=Rate.of(self.line.at(batch), rung.step),
            step=rung.step,
        )

    def _between(self, batch: int) -> Rung:
        if batch in self.rungs:
            return self.rungs[batch]
        known = list(self.rungs)
        if len(known) == 1:  # in proportion: an upper bound
            share = batch / known[0]
            only = self.rungs[known[0]]
            step = _with(only.step, [value * share for value in astuple(only.step)])
            return Rung(peak_bytes=round(only.peak_bytes * share), step=step)
        place = min(max(bisect_left(known, batch), 1), len(known) - 1)
        low, high = known[place - 1], known[place]
        share = (batch - low) / (high - low)
        first, second = self.rungs[low], self.rungs[high]
        seconds = [
            max(a + (b - a) * share, 0.0)
            for a, b in zip(astuple(first.step), astuple(second.step), strict=True)
        ]
        peak_bytes = first.peak_bytes + (second.peak_bytes - first.peak_bytes) * share
        return Rung(peak_bytes=round(peak_bytes), step=_with(first.step, seconds))


def _with(step: StepEstimate, seconds: Sequence[float]) -> StepEstimate:
    """A step with other seconds, in the order of its fields."""
    return replace(step, **dict(zip((item.name for item in fields(step)), seconds, strict=True)))
