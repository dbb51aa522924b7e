"""What prediction says does not fit: it is not launched, but for a share that who audits asks for."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..predict.fits import LAUNCH
from ..records.knowledge import Knowledge
from ..study.definition import SearchSettings
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from ..values.outcome import Outcome
from ..values.record import Record
from .foresight import Foresight
from .strategy import CandidateFilter, Rejection


@dataclass(frozen=True, kw_only=True, slots=True)
class Skips:
    """What became of the candidates that were predicted not to fit, and of those that were launched."""

    skipped: int  # not launched
    checked: int  # measured nevertheless
    wrong: int  # of these fitted
    launched: int  # predicted to fit
    ran_out: int  # of these did not

    def sentence(self) -> str:
        """For people; says what was predicted and what measured."""
        text = (
            f"Of what was predicted to fit {LAUNCH.condition} {self.launched} were launched and "
            f"{self.ran_out} ran out of memory; {self.skipped} that were not were asked for and not launched"
        )
        if self.checked:
            text += f", {self.checked} measured nevertheless, of which {self.wrong} fitted"
        return text


class PredictedMemoryRule(CandidateFilter):
    """Rejects what is predicted not to fit, but for `checks`."""

    def __init__(self, foresight: Foresight, checks: Sequence[Candidate] = ()) -> None:
        self._foresight, self._checks = foresight, frozenset(checks)

    def reject(self, candidate: Candidate, knowledge: Knowledge) -> Rejection | None:
        outlook = self._foresight.outlook(candidate.line())
        if outlook is None or candidate.batch_size <= outlook.largest or candidate in self._checks:
            return None
        return Rejection(
            outcome=Outcome.PREDICTED_OVER_BUDGET,
            message=f"not launched: predicted not to fit {LAUNCH.condition}, by replaying its allocations",
            predicted_peak_bytes=outlook.forecast(candidate.batch_size).peak_bytes,
        )


def to_check(space: SearchSpace, foresight: Foresight, settings: SearchSettings) -> list[Candidate]:
    """The share of the candidates predicted not to fit that is measured nevertheless, nearest to the border
    first: of every line the next batch. None by default, and then nothing is waited for."""
    if not settings.check_share:
        return []
    over = []
    for line in space.lines:
        outlook = foresight.outlook(line)
        beyond = () if outlook is None else space.batches(line)[len(outlook.fitting) :]
        if outlook is not None and beyond:
            over.append((len(beyond), line.at(beyond[0])))
    count = math.ceil(settings.check_share * sum(many for many, _ in over))
    random.Random(settings.seed).shuffle(over)
    return [candidate for _, candidate in over[:count]]


def count_skips(records: Sequence[Record], foresight: Foresight) -> Skips:
    """From the settled records of a study, as far as it was predicted."""
    largest = {outlook.line: outlook.largest for outlook in foresight.known}
    over: list[Record] = []
    under: list[Record] = []
    for record in records:
        candidate = record.to_candidate()
        if candidate.line() in largest:
            (over if candidate.batch_size > largest[candidate.line()] else under).append(record)
    checked = [record for record in over if record.attempt > 0]
    launched = [record for record in under if record.attempt > 0]
    return Skips(
        skipped=len(over) - len(checked),
        checked=len(checked),
        wrong=sum(record.fits for record in checked),
        launched=len(launched),
        ran_out=sum(record.measurement.outcome.is_memory for record in launched),
    )
