"""A strategy replayed against a table: every measurement is looked up, and takes the time that it took.

What is not in the table is an error. Beyond a line's largest batch (and a sixteenth) memory runs out: such a
launch costs what setting up costs on that line, which is the least it can cost.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna

from ..tuner.records.cells import Cell, cell_of
from ..tuner.records.database import StudyStore
from ..tuner.records.frontier import to_points
from ..tuner.records.hypervolume import GrowingHypervolume, hypervolume
from ..tuner.records.knowledge import PREDICTED_PEAK_BYTES, Knowledge
from ..tuner.search.strategy import DEFAULT_FILTERS, CandidateFilter, Rejection, Strategy
from ..tuner.study.definition import Sampler, StudyDefinition
from ..tuner.study.space import SearchSpace
from ..tuner.values.candidate import DEFAULT_WORKLOAD, Candidate, fields_of
from ..tuner.values.measurement import Measurement
from ..tuner.values.outcome import Outcome
from ..tuner.values.record import Record
from .made_records import record_of
from .search_table import Entry, Table

STARTUP_TRIALS = 10
"""Random ones of TPE, and NSGA-II's population: a study's default."""
_SURELY_OVER = 17 / 16
"""Of a line's largest batch in the table, which is up to a thirty-second below the largest that is predicted
to fit, and that for 1 % less room: what is larger than this does not fit."""


class Simulation:
    """A table as a card that measures.

    Observed rates scatter around the table's as its means do; `seed` is of that, and figures of merit are
    taken from the table itself.
    """

    def __init__(self, table: Table, seed: int) -> None:
        self._table, self._random = table, random.Random(seed)
        self._batches = table.batches
        self._setup_s = {
            line: statistics.median(table.entries[line.at(batch)].setup_s for batch in batches)
            for line, batches in self._batches.items()
        }

    def space(self) -> SearchSpace:
        """The table's candidates, and those listed batches of other lines with which memory runs out."""
        listed = sorted({batch for batches in self._batches.values() for batch in batches})
        products = []
        for line, batches in self._batches.items():
            over = [batch for batch in listed if batch > batches[-1] * _SURELY_OVER]
            axes = {
                name: [line.field(name)]
                for name in fields_of([DEFAULT_WORKLOAD])
                if name not in ("workload", "batch_size")
            }
            products.append({**axes, "batch_size": [*batches, *over]})
        return SearchSpace(StudyDefinition.model_validate({"name": "replay", "axes": products}))

    def measure(self, candidate: Candidate, number: int) -> Record:
        """What the table says of a candidate, with the seconds that it took as `wall_s`.

        Raises: KeyError for one that is not in the table.
        """
        entry = self._table.entries.get(candidate) or self._over(candidate)
        rate = entry.tokens_per_s
        if rate is not None:
            scatter = (entry.tokens_per_s_std or 0.0) / math.sqrt(max(entry.samples, 1))
            rate = max(rate + self._random.gauss(0.0, scatter), rate / 2)
        return _record(candidate, entry, self._table.budget_bytes, rate, number)

    def rejected(self, candidate: Candidate, number: int, rejection: Rejection) -> Record:
        """Of a candidate that a rule rejected: it takes no time."""
        peak_bytes = rejection.predicted_peak_bytes
        return Record(
            digest=candidate.digest(),
            candidate=candidate.identity(),
            trial_number=number,
            attempt=0,
            started_at="",
            budget_bytes=self._table.budget_bytes,
            measurement=Measurement(
                outcome=rejection.outcome,
                memory_stats={} if peak_bytes is None else {PREDICTED_PEAK_BYTES: peak_bytes},
            ),
        )

    def _over(self, candidate: Candidate) -> Entry:
        batches = self._batches.get(candidate.line(), ())
        if not batches or candidate.batch_size <= batches[-1] * _SURELY_OVER:
            raise KeyError(f"{candidate.describe()} is not in the table")
        setup_s = self._setup_s[candidate.line()]
        return Entry(
            outcome=Outcome.OOM,
            tokens_per_s=None,
            tokens_per_s_std=None,
            samples=0,
            peak_bytes=None,
            parameters=None,
            body_parameters=None,
            setup_s=setup_s,
            seconds=setup_s,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """How far a replay is after so many measurements: shares of the whole table's, and seconds.

    regret_mean, regret_worst: over the cells, of what would be recommended now against the cell's best; 1
    where nothing of a cell was measured. ran_out: launches for which memory did not suffice.
    """

    seconds: float
    volume: float
    regret_mean: float
    regret_worst: float
    ran_out: int


class Truth:
    """The table's own figures: every point, their hypervolume, the best of every cell."""

    def __init__(self, table: Table) -> None:
        self.table = table
        exact = [
            _record(candidate, entry, table.budget_bytes, entry.tokens_per_s, 0)
            for candidate, entry in table.feasible.items()
        ]
        self.points = {point.candidate: point for point in to_points(exact)}
        self.volume = hypervolume(self.points.values(), table.budget_bytes)
        self.best: dict[Cell, float] = {}
        for point in self.points.values():
            cell = cell_of(point.candidate)
            self.best[cell] = max(self.best.get(cell, 0.0), point.tokens_per_s)


class Score:
    """Judges what was measured by the truth."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._volume = GrowingHypervolume(truth.table.budget_bytes)
        self._observed: dict[Cell, dict[Candidate, list[float]]] = {}  # rates, once more where repeated
        self._seconds, self._ran_out = 0.0, 0

    def take(self, record: Record) -> Step:
        """Take in one more measurement."""
        candidate, measurement = record.to_candidate(), record.measurement
        self._seconds += measurement.wall_s
        self._ran_out += measurement.outcome.is_memory
        if record.fits:
            self._volume.add(self._truth.points[candidate])
            observed = measurement.tokens_per_s(candidate.items_per_step)[0]
            self._observed.setdefault(cell_of(candidate), {}).setdefault(candidate, []).append(observed)
        regrets = [self._regret(cell, best) for cell, best in self._truth.best.items()]
        return Step(
            seconds=self._seconds,
            volume=self._volume.volume / self._truth.volume,
            regret_mean=statistics.fmean(regrets),
            regret_worst=max(regrets),
            ran_out=self._ran_out,
        )

    def _regret(self, cell: Cell, best: float) -> float:
        rates = self._observed.get(cell)
        if rates is None:
            return 1.0
        chosen = max(rates, key=lambda candidate: statistics.fmean(rates[candidate]))
        return 1 - self._truth.points[chosen].tokens_per_s / best


def _record(candidate: Candidate, entry: Entry, budget_bytes: int, rate: float | None, number: int) -> Record:
    measurement = Measurement(
        outcome=entry.outcome,
        parameters=entry.parameters,
        body_parameters=entry.body_parameters,
        samples_s=() if rate is None else (candidate.items_per_step / rate,) * 3,
        setup_s=entry.setup_s,
        wall_s=entry.seconds,
        peak_bytes=entry.peak_bytes,
    )
    return record_of(candidate, measurement, number=number, budget_bytes=budget_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """What a strategy is made from: a space, a study in memory, and a seed."""

    table: Table
    space: SearchSpace
    store: StudyStore
    knowledge: Knowledge
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """A strategy: how it is made, and the rules by which it rejects candidates without a launch."""

    make: Callable[[Contest], Strategy]
    sampler: Sampler = "random"
    rules: Callable[[Contest], Sequence[CandidateFilter]] = lambda contest: DEFAULT_FILTERS


def replay(truth: Truth, contestant: Contestant, seed: int, most: int) -> list[Step]:
    """What a strategy would have found, after each of at most so many measurements."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    simulation, score, knowledge = Simulation(truth.table, seed), Score(truth), Knowledge()
    space = simulation.space()
    store = StudyStore(
        optuna.storages.InMemoryStorage(),
        space,
        name="replay",
        seed=seed,
        startup_trials=STARTUP_TRIALS,
        sampler=contestant.sampler,
    )
    contest = Contest(table=truth.table, space=space, store=store, knowledge=knowledge, seed=seed)
    strategy, rules = contestant.make(contest), contestant.rules(contest)

    def rejection_of(candidate: Candidate) -> Rejection | None:
        reasons = (rule.reject(candidate, knowledge) for rule in rules)
        return next((reason for reason in reasons if reason is not None), None)

    def is_open(candidate: Candidate) -> bool:
        return knowledge.is_available(candidate) and rejection_of(candidate) is None

    steps: list[Step] = []
    while len(steps) < most and (candidate := strategy.propose(knowledge, is_open)) is not None:
        if strategy.is_repeat:  # once more, to part it from others: the study was told already
            knowledge.begin_again(candidate)
            record = simulation.measure(candidate, knowledge.record_of(candidate).trial_number)
            record = record.model_copy(update={"attempt": len(knowledge.attempts(candidate)) + 1})
            steps.append(score.take(record))
            knowledge.add(record)
            continue
        knowledge.begin(candidate)
        number, rejection = store.trial_of(candidate), rejection_of(candidate)
        if rejection is None:
            record = simulation.measure(candidate, number)
            steps.append(score.take(record))
        else:
            record = simulation.rejected(candidate, number, rejection)
        knowledge.add(record)
        store.tell(record, knowledge)
    return steps
