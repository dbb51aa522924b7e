"""A run's files while it goes on: what is recommended is written as soon as it is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from ..predict.outlook import Outlook
from ..predict.rate.profiles import GpuProfile
from ..records.frontier import Point, to_points
from ..records.recommend import recommend, recommendation_name
from ..records.results import Results
from ..search.decisions import predicted_record
from ..values.errors import UserInputError
from ..values.interrupt import interrupt_deferred
from ..values.record import Record
from .facts import RunFacts
from .outputs import write_outputs
from .recommendations import write_recommended

_EVERY_S = 10.0


class Expected:
    """The likely fastest of every model by prediction, for where nothing is measured yet."""

    def __init__(self, profile: GpuProfile, budget_bytes: int, at: str) -> None:
        """at: when this was, in ISO 8601."""
        self._profile, self._budget_bytes, self._at = profile, budget_bytes, at
        self._best: dict[str, Point] = {}

    def add(self, outlook: Outlook) -> bool:
        """Take in a line; whether another point of its model is the likely fastest now."""
        prediction = outlook.recommended
        if prediction is None:
            return False
        name = recommendation_name(prediction.candidate)
        before = self._best.get(name)
        if before is not None and before.tokens_per_s >= prediction.tokens_per_s.expected:
            return False
        record = predicted_record(
            prediction, self._profile, number=0, budget_bytes=self._budget_bytes, at=self._at
        )
        points = recommend(to_points([record]))
        if points:
            [self._best[name]] = points
        return bool(points)

    def beside(self, recommended: Iterable[Point]) -> list[Point]:
        """What is recommended, and the likely fastest of the models that are not among it."""
        measured = list(recommended)
        names = {recommendation_name(point.candidate) for point in measured}
        return measured + [point for name, point in self._best.items() if name not in names]


class EarlyOutputs:
    """Writes the recommendations of a search whenever they change, and the report at most every ten seconds.

    What cannot be written is told once, and costs the search nothing: the records are kept elsewhere.
    """

    def __init__(
        self,
        facts: RunFacts,
        earlier: Sequence[Record],
        expected: Expected | None,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._facts, self._records, self._expected = facts, list(earlier), expected
        self._tell, self._clock = tell, clock
        self._written_s: float | None = None
        self._recommended: list[str] | None = None
        self._is_told, self._is_behind = False, True

    def __call__(self, record: Record | None, outlooks: Iterable[Outlook] = ()) -> None:
        """Take in what was measured and predicted since, and write what is due."""
        if record is not None:
            self._records.append(record)
            self._is_behind = True
        expected = self._expected
        if expected is not None:
            for outlook in outlooks:
                self._is_behind |= expected.add(outlook)
        if not self._is_behind:
            return
        results = Results.of(self._records)
        points = list(results.recommended)
        if expected is not None:
            points = expected.beside(points)
        digests = [point.record.digest for point in points]
        now_s = self._clock()
        is_due = self._written_s is None or now_s - self._written_s >= _EVERY_S
        try:
            with interrupt_deferred():
                if is_due and results.records:
                    write_outputs(results, self._facts, points, is_early=True)
                    self._written_s, self._recommended = now_s, digests
                elif digests and digests != self._recommended:
                    write_recommended(results, points, self._facts.run_root / "recommended")
                    self._recommended = digests
                self._is_behind = not is_due  # of the report, until that is due again
        except UserInputError as error:
            if not self._is_told:
                self._tell(f"{error}")
            self._is_told = True
