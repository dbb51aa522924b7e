"""The best of every cell: what to measure where predictions say which batches fit and which are likely fast.

A cell is what a user asks the fastest of (`records/cells.py`). Its lines (kernel
version, checkpointing, precision) are ranked by their predicted rate at the largest batch that fits,
corrected by what was measured so far; the likely fastest is measured there first. Throughput mostly rises
with the batch, but not always: around the top a few batches are measured, and between them where the best is
not the largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence

from ..predict.climb import rounded
from ..predict.outlook import Outlook
from ..predict.rate.throughput import Correction
from ..records.frontier import Point
from ..records.ties import Compared, compare
from ..values.candidate import Candidate

IsOpen = Callable[[Candidate], bool]

_TOP_SHARES = (1.0, 7 / 8, 3 / 4)
"""Of the largest batch that fits, the batches that are measured in any case."""
FINEST_SHARE = 1 / 24
"""Two batches that differ by less than that share of the larger are not told apart any further."""
_MOST_BATCHES = 7
_NEAR = 2
"""A batch below the other by no more than that factor says something of it."""
_GAIN = 1.01
"""What a line that saves memory has to promise over the best of its cell, predicted like it, in tokens/s."""
_CONTENDER = 0.97
"""A line whose corrected rate is less than this share of the best measured cannot win: its correction comes
from what was measured near to it."""


class Cell:
    """The lines of one cell, as far as they are known, and what was measured of them."""

    def __init__(self, line: Candidate) -> None:
        """line: any of the cell."""
        self.line = line
        self._lines: list[_Rated] = []
        self._points: dict[Candidate, dict[int, Point]] = {}  # by line and batch
        self._begun: set[Candidate] = set()  # lines, of which something is being measured
        self._done_under: Correction | None = None
        self._compared: Compared | None = None
        self.best: Point | None = None

    def add(self, outlook: Outlook, *, is_saving: bool = False) -> None:
        """Take in a line of which some batch fits. is_saving: it is tried where memory limits the cell."""
        self._lines.append(_Rated(outlook, is_saving=is_saving))
        self._done_under = None

    def begin(self, candidate: Candidate) -> None:
        """Note that a candidate is being measured: nothing else of its line is asked for meanwhile."""
        self._begun.add(candidate.line())

    def take(self, candidate: Candidate, point: Point | None) -> None:
        """Take in what was measured of a candidate, None where it does not fit."""
        self._begun.discard(candidate.line())
        self._done_under = None
        if point is None:
            return
        self._points.setdefault(candidate.line(), {})[candidate.batch_size] = point
        self._compared = None
        if self.best is not None and self.best.candidate == candidate:  # it may be slower than it was
            self.best = max(self.points, key=lambda p: p.tokens_per_s)
        elif self.best is None or point.tokens_per_s > self.best.tokens_per_s:
            self.best = point

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is being measured for the first time."""
        return not self._begun

    @property
    def points(self) -> list[Point]:
        """All that were measured and fit."""
        return [point for of_line in self._points.values() for point in of_line.values()]

    @property
    def compared(self) -> Compared:
        """Its fastest points, of which there is at least one."""
        if self._compared is None:
            self._compared = compare(self.points)
        return self._compared

    @property
    def best_rate(self) -> float:
        """Tokens a second of the best that was measured; 0 where nothing was."""
        return 0.0 if self.best is None else self.best.tokens_per_s

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions of its lines, but for those that save memory."""
        return tuple(dict.fromkeys(rated.version for rated in self._lines if not rated.is_saving))

    def likely_rate(self, correction: Correction) -> float:
        """Tokens a second of the likely fastest."""
        return max(rated.expected(correction) for rated in self._lines)

    def contender(
        self, correction: Correction, is_open: IsOpen, lost: Container[str] = ()
    ) -> Candidate | None:
        """The line that may be faster than the best measured, at its top; None where none is left.

        lost: kernel versions that are not tried any more.
        """
        if self._done_under is correction or (self.best is None and self._begun):
            return None
        floor = 0.0 if self.best is None else self.best.tokens_per_s * _CONTENDER
        # Of equal rates the first comes first
        for rated in sorted(self._lines, key=lambda rated: -rated.expected(correction)):
            if rated.expected(correction) < floor:
                break
            if rated.version in lost or rated.outlook.line in self._begun or self._is_tried(rated, is_open):
                continue
            if rated.is_saving and not self._promises_gain(rated, correction):
                continue
            found = rated.first_open(is_open)
            if found is not None:
                return found
        if self.best is not None and not self._begun:
            self._done_under = correction
        return None

    def _promises_gain(self, rated: _Rated, correction: Correction) -> bool:
        """Whether a line that saves memory may be faster than the best at what it was measured with."""
        own = None if self.best is None else self._rated(self.best.candidate.line())
        if self.best is None or own is None:
            return True
        now = own.expected(correction, self.best.candidate.batch_size)
        return rated.expected(correction) >= now * _GAIN

    def _rated(self, line: Candidate) -> _Rated | None:
        return next((rated for rated in self._lines if rated.outlook.line == line), None)

    def of_version(self, version: str, correction: Correction, is_open: IsOpen) -> Candidate | None:
        """The likely fastest line of a kernel version, at its top, where none of it was measured."""
        lines = [rated for rated in self._lines if rated.version == version and not rated.is_saving]
        if not lines or any(line.version == version for line in self._begun):
            return None
        if any(self._is_tried(rated, is_open) for rated in lines):
            return None
        return max(lines, key=lambda rated: rated.expected(correction)).first_open(is_open)

    def _is_tried(self, rated: _Rated, is_open: IsOpen) -> bool:
        """Whether a line was measured near what would be measured of it now, not far below it alone."""
        batches = self._points.get(rated.outlook.line)
        if not batches:
            return False
        top = rated.first_open(is_open)
        return top is None or max(batches) * _NEAR >= top.batch_size

    def refinement(self, is_open: IsOpen) -> Candidate | None:
        """A batch near the top of the fastest line whose throughput is not known yet."""
        if self.best is None:
            return None
        line = self.best.candidate.line()
        rated = self._rated(line)
        if rated is None or line in self._begun:
            return None
        rates = {batch: point.tokens_per_s for batch, point in self._points[line].items()}
        if sum(batch * _NEAR >= self.best.candidate.batch_size for batch in rates) >= _MOST_BATCHES:
            return None
        return next((c for batch in refining(rated.outlook, rates) if is_open(c := line.at(batch))), None)


class _Rated:
    """A line with its predicted rate at its top, which is asked again under every correction."""

    __slots__ = ("_rate", "_tops", "is_saving", "limited_by", "outlook", "version")

    def __init__(self, outlook: Outlook, *, is_saving: bool) -> None:
        self.outlook, self.is_saving = outlook, is_saving
        forecast = outlook.forecast(top_batch(outlook))
        self.version, self.limited_by = outlook.line.version, forecast.limited_by
        self._rate = forecast.tokens_per_s.expected
        self._tops = (top_batch(outlook), *lower(outlook))

    def expected(self, correction: Correction, batch: int | None = None) -> float:
        """Tokens a second at its top, or at a batch, by what was measured so far."""
        rate = self._rate if batch is None else self.outlook.forecast(batch).tokens_per_s.expected
        return rate * math.exp(-correction.log_factor(self.version, self.limited_by))

    def first_open(self, is_open: IsOpen) -> Candidate | None:
        """Its top; where that ran out of memory although it was predicted to fit, the next below."""
        return next((c for batch in self._tops if is_open(c := self.outlook.line.at(batch))), None)


def top_batch(outlook: Outlook) -> int:
    """The batch at which a line is measured first: the largest that fits, or a rounder one just below it."""
    if not isinstance(outlook.batches, range):
        return outlook.largest
    return max(rounded(outlook.largest), outlook.batches[0])


def lower(outlook: Outlook) -> Iterator[int]:
    """Smaller batches than the top, for where it ran out of memory: each about a sixteenth smaller."""
    fitting = outlook.fitting
    place = len(fitting) - 1
    top = top_batch(outlook)
    while place > 0:
        place = min(place - 1, int(place * 15 / 16))
        if fitting[place] < top:
            yield fitting[place]


def refining(outlook: Outlook, rates: Mapping[int, float]) -> Iterator[int]:
    """Batches that would tell more of a line whose measured rates by batch are given, the most telling first:
    those at and below the top, then those halfway between the best and its measured neighbours.

    Rounder numbers are asked for, where there is room for them.
    """
    fitting = outlook.fitting
    for share in _TOP_SHARES:
        batch = _near(fitting, outlook.largest * share)
        if not any(abs(batch - known) <= batch * FINEST_SHARE for known in rates):
            yield batch
    if not rates:
        return
    best = max(rates, key=lambda batch: (rates[batch], -batch))
    known = sorted(rates)
    place = known.index(best)
    for neighbour in (*known[place + 1 : place + 2], *known[max(place - 1, 0) : place]):
        middle = _near(fitting, (best + neighbour) / 2)
        if abs(neighbour - best) > max(best, neighbour) * 2 * FINEST_SHARE and middle not in rates:
            yield middle


def _near(fitting: Sequence[int], batch: float) -> int:
    """The rounder allowed batch at a number or just below it."""
    if isinstance(fitting, range):
        return min(max(rounded(max(int(batch), 1)), fitting[0]), fitting[-1])
    return max((each for each in fitting if each <= batch), default=fitting[0])
