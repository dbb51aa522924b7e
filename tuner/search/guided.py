"""The strategy where predictions are there: every model's likely best first, then every cell's, then around
each model's top, what adds most to the frontier, the kernel versions side by side, around each cell's top,
and then another strategy's choice. Where memory limits a cell, lines that save it are among its lines."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import islice

from ..predict.rate.throughput import MeasuredStep, correct
from ..records.cells import Cell as CellKey
from ..records.cells import cell_of
from ..records.frontier import Point
from ..records.knowledge import Knowledge
from ..records.ties import MOST_REPEATS
from ..records.versions import LostVersions
from ..values.candidate import Candidate
from ..values.record import Record
from .cells import Cell, IsOpen
from .foresight import Foresight
from .growth import Growth
from .savings import Savings
from .strategy import PREPARED, Preparation, Strategy

_MORE = 1 + 1 / 64
"""The medians of a correction hardly move by one step more, and those of a thousand take 2.5 ms: they are
taken again once this many times as many steps were measured. Up to 64 that is after each."""
_WAIT_S = 120.0
"""How long is waited until one of them is ready."""

_Model = tuple[str, str, tuple[str, ...]]


class GuidedSearch(Strategy):
    """Measures what predictions call worthwhile, as far as they have come, and leaves the rest to `then`.

    checks: measured although predicted not to fit. budget_bytes: of memory, for all that is measured.
    preparation: what is worthwhile is made ready by it, and what is ready comes before what is more pressing.
    """

    def __init__(
        self,
        foresight: Foresight,
        then: Strategy,
        checks: Sequence[Candidate] = (),
        preparation: Preparation | None = None,
        *,
        budget_bytes: int,
    ) -> None:
        self._foresight, self._then, self._checks = foresight, then, checks
        self._growth = Growth(foresight, budget_bytes)
        self._savings = Savings(foresight)
        self._preparation = preparation
        self._cells: dict[CellKey, Cell] = {}
        self._measured: dict[CellKey, list[tuple[Candidate, Point | None]]] = {}
        self._outlooks = 0  # taken in so far
        self._seen = 0  # settled records
        self._repeats_seen = 0
        self._is_repeat = False
        self._versions = LostVersions()
        self._lost: Container[str] = ()  # kernel versions
        self._unrated: list[Record] = []  # of lines that are not predicted yet
        self._steps: list[MeasuredStep] = []
        self._correction, self._corrected_by = correct(()), 0  # of the steps, so many
        self._has_plan = True
        self._has_begun = False  # in this session

    @property
    def has_plan(self) -> bool:
        return self._has_plan

    @property
    def is_repeat(self) -> bool:
        return self._is_repeat

    def propose(self, knowledge: Knowledge, is_open: IsOpen) -> Candidate | None:
        while True:
            self._look()
            self._learn(knowledge)
            self._foresight.ask(self._savings.due(self._cells))
            self._has_plan, self._is_repeat = True, False
            is_all_known = self._foresight.is_complete and self._outlooks == len(self._foresight.known)
            for asked_for in (
                self._likely_bests(is_open),
                self._growth.candidates(knowledge, self._steps, is_open),
                self._comparisons(is_open),
            ):
                found = self._ready_of(islice(_without_repetition(asked_for), PREPARED))
                if found is not None:
                    self._cells[cell_of(found)].begin(found)
                    self._growth.begin(found)
                    return found
                if is_all_known and (found := self._untold_apart(knowledge)) is not None:
                    self._is_repeat = True
                    return found
            if is_all_known:
                break
            self._foresight.wait_for_more(than=self._outlooks)
        self._has_plan = False
        check = next((candidate for candidate in self._checks if is_open(candidate)), None)
        is_put_off = self._foresight.is_put_off
        return check or self._then.propose(knowledge, lambda c: not is_put_off(c.line()) and is_open(c))

    def _ready_of(self, pressing: Iterable[Candidate]) -> Candidate | None:
        """The first that is ready, waited for where none is; None of none."""
        if self._preparation is None:
            return next(iter(pressing), None)
        candidates = list(pressing)
        if not candidates:
            return None
        self._preparation.compile_ahead(candidates)
        if not self._has_begun:
            # What is left of it is compiled while its version is checked and a new worker started.
            self._has_begun = True
            if self._preparation.wait_for_check(candidates[0], _WAIT_S):
                return candidates[0]
        # Where it takes too long the worker does what is missing.
        return self._preparation.first_ready(candidates, _WAIT_S) or candidates[0]

    def _untold_apart(self, knowledge: Knowledge) -> Candidate | None:
        """Of the fastest of a model's best cell that cannot be told apart yet the one measured least often;
        None where they can, or were measured often enough."""
        for cell in self._best_of_each_model():
            if cell.line.mode != "train" or not cell.is_idle:
                continue
            asked = [point.candidate for point in cell.compared.unresolved]
            often = {candidate: len(knowledge.attempts(candidate)) for candidate in asked}
            asked = [c for c in asked if often[c] <= MOST_REPEATS and not knowledge.is_under_way(c)]
            if asked:
                return min(asked, key=lambda candidate: often[candidate])
        return None

    def _likely_bests(self, is_open: IsOpen) -> Iterator[Candidate | None]:
        """The likely best of every model, then of every cell, then around the top of every model's best."""
        unmeasured = [cell for cell in self._cells.values() if cell.best is None]
        for cells in (self._first_of_each_model(unmeasured), unmeasured, self._cells.values()):
            for cell in sorted(cells, key=lambda cell: -cell.likely_rate(self._correction)):
                yield cell.contender(self._correction, is_open, self._lost)
        yield from (cell.refinement(is_open) for cell in self._best_of_each_model())

    def _comparisons(self, is_open: IsOpen) -> Iterator[Candidate | None]:
        """The kernel versions side by side, then around the top of every other cell."""
        for cell in self._side_by_side():
            yield from (cell.of_version(name, self._correction, is_open) for name in cell.versions)
        yield from (cell.refinement(is_open) for cell in self._cells.values())

    def _first_of_each_model(self, unmeasured: Iterable[Cell]) -> list[Cell]:
        """The likely fastest cell of every model that has nothing measured."""
        measured = {_model(cell) for cell in self._cells.values() if cell.best is not None}
        cells = [cell for cell in unmeasured if _model(cell) not in measured]
        return _best_by_model(cells, lambda cell: cell.likely_rate(self._correction))

    def _best_of_each_model(self) -> list[Cell]:
        """The cell with every model's fastest measured point."""
        return _best_by_model(self._cells.values(), lambda cell: cell.best_rate)

    def _side_by_side(self) -> list[Cell]:
        """Of every model with several kernel versions the cell in which most of them can be compared."""
        several = [cell for cell in self._cells.values() if len(cell.versions) > 1]
        return _best_by_model(several, lambda cell: len(cell.versions))  # the first: it stays the same

    def _look(self) -> None:
        """Take in the outlooks that have come since."""
        known = self._foresight.known
        for outlook in known[self._outlooks :]:
            self._savings.take(outlook)
            if not outlook.largest:
                continue
            key = cell_of(outlook.line)
            if key not in self._cells:
                self._cells[key] = Cell(outlook.line)
                for candidate, point in self._measured.get(key, ()):
                    self._cells[key].take(candidate, point)
            self._cells[key].add(outlook, is_saving=outlook.line in self._savings.lines)
        self._outlooks = len(known)

    def _learn(self, knowledge: Knowledge) -> None:
        """Take in what was measured since."""
        settled = knowledge.settled
        new = [record.to_candidate() for record in settled[self._seen :]]
        new += knowledge.repeated[self._repeats_seen :]
        for candidate in new:
            key, point = cell_of(candidate), knowledge.point_of(candidate)
            self._measured.setdefault(key, []).append((candidate, point))
            if point is not None:
                self._versions.take(point)
            if key in self._cells:
                self._cells[key].take(candidate, point)
        if new:
            self._lost = self._versions.now()
        self._repeats_seen = len(knowledge.repeated)
        self._unrated += knowledge.first_settled[self._seen :]
        self._seen = len(settled)
        steps, self._unrated = measured_steps(self._unrated, self._foresight)
        self._steps += steps
        if len(self._steps) > self._corrected_by * _MORE:
            self._correction, self._corrected_by = correct(self._steps), len(self._steps)


def _without_repetition(candidates: Iterable[Candidate | None]) -> Iterator[Candidate]:
    seen: set[Candidate] = set()
    for candidate in candidates:
        if candidate is not None and candidate not in seen:
            seen.add(candidate)
            yield candidate


def measured_steps(
    records: Iterable[Record], foresight: Foresight
) -> tuple[list[MeasuredStep], list[Record]]:
    """The steps of those records that were measured, beside what was predicted of them; and the records of
    lines that may be predicted yet."""
    outlooks = {outlook.line: outlook for outlook in foresight.known}
    steps, left = [], []
    for record in records:
        if not record.fits or not record.measurement.samples_s:
            continue
        candidate = record.to_candidate()
        outlook = outlooks.get(candidate.line())
        if outlook is None:
            left.append(record)
            continue
        forecast = outlook.forecast(candidate.batch_size)
        steps.append(
            MeasuredStep(
                kernel_version=candidate.version,
                limited_by=forecast.limited_by,
                estimated_s=forecast.step.step_s,
                measured_s=record.measurement.step_time_mean_s(),
            )
        )
    return steps, [] if foresight.is_complete else left


def _model(cell: Cell) -> _Model:
    return cell.line.workload, cell.line.mode, cell.line.model_words


def _best_by_model(cells: Iterable[Cell], worth: Callable[[Cell], float]) -> list[Cell]:
    """Of every model the first of its cells that are worth most; in the models' order."""
    found: dict[_Model, Cell] = {}
    for cell in cells:
        best = found.get(_model(cell))
        if best is None or worth(cell) > worth(best):
            found[_model(cell)] = cell
    return list(found.values())
