"""When a search has stalled: the frontier grew too little over the last measurements."""

from __future__ import annotations

from ..records.hypervolume import GrowingHypervolume
from ..records.knowledge import Knowledge
from ..study.definition import Stall


class StallRule:
    """Follows the hypervolume of one search, with every launched candidate when it is settled."""

    def __init__(self, stall: Stall, budget_bytes: int) -> None:
        self._stall = stall
        self._volume = GrowingHypervolume(budget_bytes)
        self._history = [0.0]  # after so many launched candidates
        self._seen = 0  # settled candidates, launched or not

    def holds(self, knowledge: Knowledge) -> bool:
        """Whether the search is to end. `knowledge` is the same every time and has only grown."""
        settled = knowledge.settled
        for record in settled[self._seen :]:
            if record.attempt > 0:
                point = knowledge.point_of(record.to_candidate())
                if point is not None:
                    self._volume.add(point)
                self._history.append(self._volume.volume)
        self._seen = len(settled)
        if len(self._history) - 1 <= self._stall.measurements:
            return False
        before, now = self._history[-1 - self._stall.measurements], self._history[-1]
        return now <= before * (1 + self._stall.growth)
