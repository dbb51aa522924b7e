"""What the search knows before it measures: predictions that skip candidates and choose the first ones.

A prediction only skips what is certainly over the budget, and a small random share of that is measured
nevertheless: how often a skip was wrong is reported, not assumed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .candidate import Candidate
from .definition import SearchSettings, StudyDefinition
from .knowledge import Knowledge
from .measurement import DeviceInfo
from .outcome import Outcome
from .predict.calibration import known_profile
from .predict.prediction import Forecast, Predictor
from .predict.store import PredictionStore
from .record import Record
from .space import SearchSpace
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
        text = f"Predicted not to fit: {self.skipped} not launched, {self.checked} measured nevertheless"
        return f"{text}, of which {self.wrong} fitted" if self.checked else text


def forecast_all(
    definition: StudyDefinition,
    device: DeviceInfo,
    budget_bytes: int,
    reserve_bytes: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Forecasts | None:
    """Forecasts of every candidate of a study on a card; None for a device that has no profile.

    Takes some minutes the first time, moments afterwards: answers are kept on disk. on_progress: as in
    `PredictionStore.ask`.
    Raises: NothingFitsError for a budget that the context alone exceeds.
    """
    profile = known_profile(device.name) if device.kind == "cuda" else None
    if profile is None:
        return None
    candidates = list(SearchSpace(definition).enumerate())
    with PredictionStore() as store:
        predictor = Predictor(profile=profile, store=store, reserve_bytes=reserve_bytes)
        found = predictor.survey(candidates, budget_bytes, on_progress=on_progress)
    return {candidate.digest(): forecast for candidate, forecast in zip(candidates, found, strict=True)}


class PredictedMemoryRule(CandidateFilter):
    """Rejects what is certainly over the budget, but for a random share of it.

    check_share: of the rejected candidates, those to be measured nevertheless; which, follows from the seed
    and the candidate alone, so that a resumed search chooses the same.
    """

    def __init__(self, forecasts: Forecasts, *, check_share: float, seed: int) -> None:
        self._forecasts, self._check_share, self._seed = forecasts, check_share, seed

    def reject(self, candidate: Candidate, knowledge: Knowledge) -> Rejection | None:
        digest = candidate.digest()
        forecast = self._forecasts.get(digest)
        if forecast is None or not forecast.is_over:
            return None
        if random.Random(f"{self._seed} {digest}").random() < self._check_share:
            return None
        return Rejection(
            outcome=Outcome.PREDICTED_OVER_BUDGET,
            message="not launched: predicted to need more than the budget by the replay of its allocations",
            predicted_peak_bytes=forecast.allocated_bytes,
        )


class LikelyBestFirst(Strategy):
    """The likely fastest candidate of each model and sequence first, then what another strategy proposes."""

    def __init__(self, candidates: Iterable[Candidate], forecasts: Forecasts, then: Strategy) -> None:
        best: dict[tuple[str, str, int, str], tuple[float, Candidate]] = {}
        for candidate in candidates:
            forecast = forecasts.get(candidate.digest())
            if forecast is None or forecast.is_over:
                continue
            cell = candidate.model, candidate.variant, candidate.n_seq, candidate.mode
            rate = forecast.tokens_per_s.expected
            if cell not in best or rate > best[cell][0]:
                best[cell] = rate, candidate
        self._first = [candidate for _, candidate in sorted(best.values(), key=lambda found: -found[0])]
        self._then = then

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        likely = next((candidate for candidate in self._first if is_open(candidate)), None)
        return likely or self._then.propose(knowledge, is_open)


def guide(
    forecasts: Forecasts, candidates: Iterable[Candidate], settings: SearchSettings, then: Strategy
) -> tuple[Strategy, PredictedMemoryRule]:
    """A strategy and a filter that follow forecasts; `then` proposes once the likely best are measured."""
    rule = PredictedMemoryRule(forecasts, check_share=settings.check_share, seed=settings.seed)
    return LikelyBestFirst(candidates, forecasts, then), rule


def count_skips(records: Sequence[Record], forecasts: Forecasts) -> Skips:
    """From the settled records of a study: how many were skipped, and how many skips were found wrong."""
    over = [r for r in records if r.digest in forecasts and forecasts[r.digest].is_over]
    skipped = [r for r in over if r.attempt == 0]
    checked = [r for r in over if r.attempt > 0]
    return Skips(skipped=len(skipped), checked=len(checked), wrong=sum(r.fits for r in checked))
