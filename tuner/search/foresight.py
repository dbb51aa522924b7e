"""What the search knows before it measures: predictions that skip candidates and choose the first ones.

A prediction only skips what is certainly over the budget, and a small random share of that is measured
nevertheless: how often a skip was wrong is reported, not assumed.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..predict.fits import SKIP
from ..predict.lines import is_predictable
from ..predict.prediction import Forecast, Predictor
from ..predict.rate.calibration import known_profile
from ..predict.rate.throughput import Correction, LimitedBy, MeasuredStep, correct
from ..predict.store import PredictionStore
from ..records.knowledge import Knowledge
from ..study.definition import SearchSettings, StudyDefinition
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from ..values.measurement import DeviceInfo
from ..values.outcome import Outcome
from ..values.record import Record
from .strategy import CandidateFilter, Rejection, Strategy

Forecasts = Mapping[str, Forecast]
"""By the candidate's digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skips:
    """What became of the candidates that prediction called certainly over the budget."""

    skipped: int  # not launched
    checked: int  # measured nevertheless
    wrong: int  # of these fitted

    def sentence(self) -> str:
        """For people; says what was predicted and what measured."""
        text = (
            f"Predicted not to fit {SKIP.condition}: {self.skipped} not launched, "
            f"{self.checked} measured nevertheless"
        )
        return f"{text}, of which {self.wrong} fitted" if self.checked else text


def forecast_all(
    definition: StudyDefinition,
    device: DeviceInfo,
    budget_bytes: int,
    reserve_bytes: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Forecasts | None:
    """Forecasts of a study's candidates on a card; None for a device that has no profile.

    Candidates of a workload that cannot be predicted have none, and are all measured.
    Takes some minutes the first time, moments afterwards: answers are kept on disk. on_progress: as in
    `PredictionStore.ask`.
    Raises: NothingFitsError for a budget that the context alone exceeds.
    """
    profile = known_profile(device.name) if device.kind == "cuda" else None
    if profile is None:
        return None
    candidates = [c for c in SearchSpace(definition).enumerate() if is_predictable(c)]
    with PredictionStore() as store:
        predictor = Predictor(profile=profile, store=store, reserve_bytes=reserve_bytes)
        found = predictor.survey(candidates, budget_bytes, SKIP, on_progress)
    return {candidate.digest(): forecast for candidate, forecast in zip(candidates, found, strict=True)}


class PredictedMemoryRule(CandidateFilter):
    """Rejects what is certainly over the budget, but for a random share of it.

    check_share: of the rejected candidates, those to be measured nevertheless; which, follows from the seed
    and the candidate alone, so that a resumed search chooses the same.
    """

    def __init__(self, forecasts: Forecasts, *, check_share: float, seed: int) -> None:
        self._forecasts, self._check_share, self._seed = forecasts, check_share, seed
        self._judged: dict[Candidate, Rejection | None] = {}

    def is_checked(self, candidate: Candidate) -> bool:
        """Whether a candidate is predicted not to fit and of the share that is measured nevertheless."""
        digest = candidate.digest()
        forecast = self._forecasts.get(digest)
        if forecast is None or not forecast.is_over:
            return False
        return random.Random(f"{self._seed} {digest}").random() < self._check_share

    def reject(self, candidate: Candidate, knowledge: Knowledge) -> Rejection | None:
        if candidate not in self._judged:
            self._judged[candidate] = self._judge(candidate)
        return self._judged[candidate]

    def _judge(self, candidate: Candidate) -> Rejection | None:
        forecast = self._forecasts.get(candidate.digest())
        if forecast is None or not forecast.is_over or self.is_checked(candidate):
            return None
        return Rejection(
            outcome=Outcome.PREDICTED_OVER_BUDGET,
            message=f"not launched: predicted not to fit {SKIP.condition}, by the replay of its allocations",
            predicted_peak_bytes=forecast.peak_bytes,
        )


_MORE = 1 + 1 / 64
"""The medians of a correction hardly move by one step more, and those of a thousand take 2.5 ms: they are
taken again once this many times as many steps were measured. Up to 64 that is after each."""


class LikelyBestFirst(Strategy):
    """The likely fastest of each model and sequence, then a share of the skips, then another strategy.

    Which is likely fastest follows from the forecasts, corrected by the measurements so far: a cell is done
    once its likely fastest is measured and fits. checks: measured although predicted not to fit.
    """

    def __init__(
        self,
        candidates: Iterable[Candidate],
        forecasts: Forecasts,
        then: Strategy,
        checks: Sequence[Candidate] = (),
    ) -> None:
        self._forecasts, self._then, self._checks = forecasts, then, checks
        self._seen = 0  # settled records
        self._steps: list[MeasuredStep] = []
        self._correction, self._corrected_by = correct(()), 0  # of the steps, so many
        cells: dict[tuple[str, str, int, int, str], list[tuple[Candidate, Forecast]]] = {}
        for candidate in candidates:
            forecast = forecasts.get(candidate.digest())
            if forecast is not None and not forecast.is_over:
                c = candidate
                cell = c.model, c.variant, c.vocab_size, c.n_seq, c.mode
                cells.setdefault(cell, []).append((candidate, forecast))
        self._cells = [_Cell(cell) for cell in cells.values()]

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        settled = knowledge.settled
        self._steps += measured_steps(settled[self._seen :], self._forecasts)
        self._seen = len(settled)
        if len(self._steps) > self._corrected_by * _MORE:
            self._correction, self._corrected_by = correct(self._steps), len(self._steps)
        likely = [cell.likely_fastest(self._correction, knowledge, is_open) for cell in self._cells]
        found = max((item for item in likely if item is not None), key=lambda item: item[0], default=None)
        if found is not None:
            return found[1]
        check = next((candidate for candidate in self._checks if is_open(candidate)), None)
        return check or self._then.propose(knowledge, is_open)


_Rated = tuple[float, int, Candidate]
"""Tokens a second, the place in the cell (of equal rates the first comes first), and the candidate."""


class _Cell:
    """Candidates of one model, variant, sequence and mode, fastest first under any correction.

    Those of one kernel version that the same thing limits are corrected by one factor, so that whatever is
    measured leaves them in order: only the fastest of each are looked at.
    """

    def __init__(self, candidates: Sequence[tuple[Candidate, Forecast]]) -> None:
        self._groups: dict[tuple[str, LimitedBy], list[_Rated]] = {}
        for place, (candidate, forecast) in enumerate(candidates):
            group = self._groups.setdefault((candidate.kernel_version, forecast.limited_by), [])
            group.append((candidate.tokens_per_step / forecast.step.step_s, place, candidate))
        for group in self._groups.values():
            group.sort(key=_fastest_first)
        self._done_under: Correction | None = None

    def likely_fastest(
        self, correction: Correction, knowledge: Knowledge, is_open: Callable[[Candidate], bool]
    ) -> tuple[float, Candidate] | None:
        """(corrected tokens a second, candidate); None for a cell that is done."""
        if correction is self._done_under:
            return None
        ranked = (
            _corrected(group, math.exp(-correction.log_factor(*name))) for name, group in self._groups.items()
        )
        for rate, _, candidate in heapq.merge(*ranked, key=_fastest_first):
            if is_open(candidate):
                return rate, candidate
            if knowledge.is_settled(candidate) and knowledge.record_of(candidate).fits:
                self._done_under = correction
                return None
        return None


def _corrected(group: Iterable[_Rated], factor: float) -> Iterator[_Rated]:
    return ((rate * factor, place, candidate) for rate, place, candidate in group)


def _fastest_first(rated: _Rated) -> tuple[float, int]:
    rate, place, _ = rated
    return -rate, place


def measured_steps(records: Iterable[Record], forecasts: Forecasts) -> list[MeasuredStep]:
    """The steps of those records that were measured and have a forecast, beside it."""
    steps = []
    for record in records:
        forecast = forecasts.get(record.digest)
        if forecast is not None and record.fits and record.measurement.samples_s:
            steps.append(
                MeasuredStep(
                    kernel_version=record.to_candidate().kernel_version,
                    limited_by=forecast.limited_by,
                    estimated_s=forecast.step.step_s,
                    measured_s=record.measurement.step_time_mean_s(),
                )
            )
    return steps


def guide(
    forecasts: Forecasts, candidates: Iterable[Candidate], settings: SearchSettings, then: Strategy
) -> tuple[Strategy, PredictedMemoryRule]:
    """A strategy and a filter that follow forecasts; `then` proposes once these have nothing more to say."""
    rule = PredictedMemoryRule(forecasts, check_share=settings.check_share, seed=settings.seed)
    candidates = list(candidates)
    checks = [candidate for candidate in candidates if rule.is_checked(candidate)]
    return LikelyBestFirst(candidates, forecasts, then, checks), rule


def count_skips(records: Sequence[Record], forecasts: Forecasts) -> Skips:
    """From the settled records of a study: how many were skipped, and how many skips were found wrong."""
    over = [r for r in records if r.digest in forecasts and forecasts[r.digest].is_over]
    skipped = [r for r in over if r.attempt == 0]
    checked = [r for r in over if r.attempt > 0]
    return Skips(skipped=len(skipped), checked=len(checked), wrong=sum(r.fits for r in checked))
