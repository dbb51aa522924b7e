"""What adds most to the frontier by prediction: where to measure once every cell's likely best is known.

Of all that was predicted of the lines (the rungs of their outlooks that fit) the one comes next whose
expected tokens per second, bytes left free and parameters dominate most that nothing measured dominates yet.
A line that was measured is off its prediction by as much as it was there, in tokens per second and in bytes;
so is one that differs in the sequence alone, at as many tokens a step. Another one is off by as much as all
that were measured suggest.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from ..predict.lines import parameter_counts
from ..predict.outlook import Outlook
from ..predict.rate.throughput import MeasuredStep, correct
from ..records.frontier import Point
from ..records.hypervolume import Box, GrowingHypervolume, to_box
from ..records.knowledge import Knowledge
from ..values.axes import AxisValue
from ..values.candidate import Candidate
from .cells import IsOpen
from .foresight import Foresight

_LEAST_SHARE = 1e-4
"""What is expected to add less than that share to the volume is not worth a measurement: from there on even a
hundred of them would add no more than a percent."""
_CORRECTIONS = 4
"""How often the correction is taken anew while the measured steps double: each time all is judged again."""

_T = TypeVar("_T")
_Family = tuple[str, str, str, tuple[tuple[str, AxisValue], ...]]
_Entry = tuple[float, int]
"""In the heap: minus what it adds at most, and its place."""


class Growth:
    """Follows what was measured under one budget, and says what would add most to its hypervolume."""

    def __init__(self, foresight: Foresight, budget_bytes: int) -> None:
        self._foresight, self._budget_bytes = foresight, budget_bytes
        self._volume = GrowingHypervolume(budget_bytes)
        self._outlooks: dict[Candidate, Outlook] = {}  # by line, taken in so far
        self._rungs: list[_Expected] = []
        self._places: dict[Candidate, range] = {}  # among them, by line
        self._points: dict[Candidate, Point] = {}  # measured
        self._rates: dict[Candidate, dict[int, float]] = {}  # of these, by line and batch, not compared yet
        self._off: dict[Candidate, dict[int, float]] = {}  # their log factors, where they are predicted
        self._alike: dict[_Family, list[Candidate]] = {}  # lines
        self._off_alike: dict[_Family, dict[int, _Off]] = {}  # by items a step, of all that are alike
        self._correction, self._corrected_by = correct(()), 0  # of the first steps, so many
        self._heap: list[_Entry] = []
        self._seen = self._repeats_seen = 0  # settled records, and those measured again
        self._begun: list[Candidate] = []

    def begin(self, candidate: Candidate) -> None:
        """Note that a candidate is being measured: others are judged as if it came out as expected."""
        self._begun.append(candidate)

    def candidates(
        self, knowledge: Knowledge, steps: Sequence[MeasuredStep], is_open: IsOpen
    ) -> Iterator[Candidate]:
        """What adds most first, each as if those before it came out as expected; none that adds too little.

        `knowledge` is the same every time and has only grown, as have the measured steps.
        """
        self._look()
        self._learn(knowledge)
        if (corrected_by := _part(len(steps))) != self._corrected_by:
            self._correction, self._corrected_by = correct(steps[:corrected_by]), corrected_by
            self._judge_again()
        least = self._volume.volume * _LEAST_SHARE
        if not least:  # nothing fitted so far: predictions have shown nothing yet
            return
        self._settle_top(knowledge, is_open)
        # From here on as if: what is found by that holds for this time alone.
        volume, heap = self._volume.copy(), list(self._heap)
        for candidate in self._begun:
            outlook = self._outlooks.get(candidate.line())
            if outlook is not None:
                volume.add_box(candidate.mode, self._box(_Expected(outlook, candidate.batch_size)))
        while heap:
            at_most, place = heapq.heappop(heap)
            rung = self._rungs[place]
            if -at_most < least:
                return
            if not is_open(rung.candidate):
                continue
            box = self._box(rung)
            found = -volume.growth(rung.candidate.mode, box), place
            if heap and found > heap[0]:
                heapq.heappush(heap, found)
            elif -found[0] >= least:
                yield rung.candidate
                volume.add_box(rung.candidate.mode, box)

    def _settle_top(self, knowledge: Knowledge, is_open: IsOpen) -> None:
        """Bring the heap to where its top adds as much as it says, and no other one more.

        While nothing is expected anew a growing volume leaves each ever less to add, so that what was found
        earlier is the most it can be, and few have to be judged again.
        """
        while self._heap:
            at_most, place = self._heap[0]
            rung = self._rungs[place]
            added = self._volume.growth(rung.candidate.mode, self._box(rung))
            if added <= 0 or not (is_open(rung.candidate) or knowledge.is_under_way(rung.candidate)):
                heapq.heappop(self._heap)  # for good: settled, rejected, or dominated
            elif -added > at_most:
                heapq.heapreplace(self._heap, (-added, place))
            else:
                return

    def _look(self) -> None:
        """Take in the outlooks that have come since."""
        new = self._foresight.known[len(self._outlooks) :]
        for outlook in new:
            line, first = outlook.line, len(self._rungs)
            self._outlooks[line] = outlook
            self._alike.setdefault(_family(line), []).append(line)
            self._rungs += [_Expected(outlook, batch) for batch in outlook.rungs if batch <= outlook.largest]
            self._places[line] = range(first, len(self._rungs))
        self._compare([outlook.line for outlook in new])

    def _learn(self, knowledge: Knowledge) -> None:
        """Take in what was measured since."""
        self._begun = [candidate for candidate in self._begun if knowledge.is_under_way(candidate)]
        settled = knowledge.settled
        new = [record.to_candidate() for record in settled[self._seen :]]
        new += knowledge.repeated[self._repeats_seen :]
        self._seen, self._repeats_seen = len(settled), len(knowledge.repeated)
        measured: dict[Candidate, None] = {}
        is_less = False
        for candidate in new:
            point, before = knowledge.point_of(candidate), self._points.get(candidate)
            if point is None:
                continue
            self._points[candidate] = point
            self._volume.add(point)
            is_less |= before is not None and (
                point.tokens_per_s < before.tokens_per_s or point.peak_bytes > before.peak_bytes
            )
            self._rates.setdefault(candidate.line(), {})[candidate.batch_size] = point.tokens_per_s
            measured[candidate.line()] = None
        if is_less:  # one that was measured again
            self._volume = GrowingHypervolume(self._budget_bytes)
            for point in self._points.values():
                self._volume.add(point)
            self._judge_again()
        self._compare([line for line in measured if line in self._outlooks])

    def _compare(self, lines: Sequence[Candidate]) -> None:
        """Judge lines again by what was measured of them."""
        judged = set(lines)
        for line in lines:
            off, outlook = self._off.setdefault(line, {}), self._outlooks[line]
            off_alike = self._off_alike.setdefault(_family(line), {})
            for batch, rate in self._rates.pop(line, {}).items():
                forecast, point = outlook.forecast(batch), self._points[line.at(batch)]
                off[batch] = math.log(forecast.tokens_per_s.expected / rate)
                bytes_off = math.log(point.peak_bytes / forecast.peak_bytes)
                off_alike[point.candidate.items_per_step] = _Off(rate=off[batch], bytes=bytes_off)
                judged.update(self._alike[_family(line)])
        if judged:
            places = {place for line in judged for place in self._places[line]}
            self._heap = [entry for entry in self._heap if entry[1] not in places]
            self._heap += [(-math.inf, place) for place in places]
            heapq.heapify(self._heap)

    def _judge_again(self) -> None:
        self._heap = [(-math.inf, place) for place in range(len(self._rungs))]

    def _box(self, expected: _Expected) -> Box:
        """By what was measured of its line, or else of all."""
        off, candidate = self._off.get(expected.line), expected.candidate
        alike = self._off_alike.get(expected.family)
        of_bytes = 0.0
        if alike:
            nearest = _nearest(alike, candidate.items_per_step)
            log_factor, of_bytes = nearest.rate, nearest.bytes
        else:
            log_factor = self._correction.log_factor(expected.line.version, expected.limited_by)
        if off:
            log_factor = _nearest(off, candidate.batch_size)
        rate = expected.tokens_per_s * math.exp(-log_factor)
        peak_bytes = min(int(expected.peak_bytes * math.exp(of_bytes)), self._budget_bytes)
        return to_box(rate, peak_bytes, expected.body_parameters, self._budget_bytes)


class _Off(NamedTuple):
    """By which log factors a prediction is off: tokens/s are lower, bytes more."""

    rate: float
    bytes: float


def _family(line: Candidate) -> _Family:
    """What lines have in common that differ in the sequence alone."""
    others = [(name, value) for name, value in line.axes.items() if name != line.spec.items_axis]
    return line.workload, line.model, line.mode, tuple(others)


def _nearest(known: Mapping[int, _T], size: int) -> _T:
    """What is known of the size that is next to one, by their ratio."""
    return known[min(known, key=lambda other: (abs(math.log(other / size)), other))]


def _part(steps: int) -> int:
    """Of so many measured steps those that a correction is made from, so that it is the same for a while."""
    return math.floor(2 ** (math.floor(math.log2(steps) * _CORRECTIONS) / _CORRECTIONS)) if steps else 0


class _Expected:
    """What is expected of one candidate, uncorrected."""

    __slots__ = ("body_parameters", "candidate", "family", "limited_by", "line", "peak_bytes", "tokens_per_s")

    def __init__(self, outlook: Outlook, batch: int) -> None:
        self.line, self.candidate = outlook.line, outlook.line.at(batch)
        self.family = _family(outlook.line)  # once: boxes are made by the thousand
        forecast = outlook.forecast(batch)
        self.tokens_per_s, self.peak_bytes = forecast.tokens_per_s.expected, forecast.peak_bytes
        self.limited_by = forecast.limited_by
        body_parameters = outlook.body_parameters
        self.body_parameters = (
            parameter_counts(outlook.line)[1] if body_parameters is None else body_parameters
        )
