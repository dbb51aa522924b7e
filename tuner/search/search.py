"""The search: asks for candidates, has them measured, writes down what came out, tells the study.

Source: docs/architecture.md, Searching (ask and tell, journal before database, PRUNED with a constraint).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..measuring.executor import Executor, Finished
from ..measuring.measurer import check_measurement
from ..records.database import StudyStore, open_sqlite
from ..records.following import Follower
from ..records.journal import Journal, read_records
from ..records.knowledge import Knowledge
from ..records.run_directory import RunDirectory, check_run_directory
from ..study.definition import StudyDefinition
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from ..values.errors import DeviceError
from ..values.interrupt import interrupt_deferred
from ..values.measurement import Measurement
from ..values.record import Record
from .choice import choose_strategy
from .foresight import Foresight
from .progress import SearchEvent, SearchResult, StopReason
from .proposals import default_strategy
from .stall import StallRule
from .strategy import DEFAULT_FILTERS, CandidateFilter, Preparation, Rejection, Strategy


def run_search(
    definition: StudyDefinition,
    pool: Executor,
    run_dir: Path,
    *,
    budget_bytes: int,
    on_event: Callable[[SearchEvent], None],
    definition_text: str | None = None,
    strategy: Strategy | None = None,
    filters: Sequence[CandidateFilter] = DEFAULT_FILTERS,
    foresight: Foresight | None = None,
    preparation: Preparation | None = None,
    follower: Follower | None = None,
) -> SearchResult:
    """Search a study in a run directory, from the start or from where an earlier driver left it.

    `strategy` None: the rows in order, all of the space, or the study's sampler. `foresight`: what it calls
    over the budget is not launched, what it calls best comes first, made ready by `preparation`. `follower`:
    has the study in a database of several hosts. A first KeyboardInterrupt stops the pool and ends the search
    with `StopReason.INTERRUPTED`.

    Raises: UserInputError for a run directory that is not this study's or cannot be written; DeviceError
    where no device is left. What was measured until then is kept, and a search of the same directory goes on
    after it, with as many devices as there are then.
    """
    check_run_directory(run_dir, definition, budget_bytes)
    with RunDirectory.open(
        run_dir,
        definition=definition,
        definition_text=definition_text,
        budget_bytes=budget_bytes,
        device=pool.device,
    ) as directory:
        knowledge = Knowledge(read_records(directory.paths.journal))
        space = SearchSpace(definition)
        store = StudyStore(
            open_sqlite(directory.paths.database) if follower is None else follower.storage,
            space,
            name=definition.name if follower is None else follower.name,
            seed=definition.search.seed,
            startup_trials=definition.search.startup_trials,
            sampler=definition.search.sampler,
            follower=follower,
        )
        strategy, filters = choose_strategy(
            definition, space, store, strategy, filters, foresight, preparation, budget_bytes=budget_bytes
        )
        with Journal(directory.paths.journal) as journal:
            return Search(
                definition=definition,
                space=space,
                store=store,
                journal=journal,
                knowledge=knowledge,
                pool=pool,
                budget_bytes=budget_bytes,
                on_event=on_event,
                strategy=strategy,
                filters=filters,
            ).run()


class Search:
    """One session of a search over an open journal and study; `run_search` puts the parts together."""

    def __init__(
        self,
        *,
        definition: StudyDefinition,
        space: SearchSpace,
        store: StudyStore,
        journal: Journal,
        knowledge: Knowledge,
        pool: Executor,
        budget_bytes: int,
        on_event: Callable[[SearchEvent], None],
        strategy: Strategy | None = None,
        filters: Sequence[CandidateFilter] = DEFAULT_FILTERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._space, self._store, self._journal, self._knowledge = space, store, journal, knowledge
        self._pool, self._budget_bytes, self._on_event = pool, budget_bytes, on_event
        self._limits, self._filters, self._clock = definition.search, filters, clock
        self._started_at: dict[Candidate, str] = {}  # of what is being measured
        self._retries: dict[Candidate, str] = {}  # that are due, with the device of the last attempt
        stall = definition.search.stall
        self._stall = None if stall is None else StallRule(stall, budget_bytes)
        self._strategy = strategy or default_strategy(definition, space, store)
        self._launched_before = knowledge.launched
        self._started_s = clock()

    def run(self) -> SearchResult:
        """Search until a stop rule holds or the user interrupts.

        Raises: DeviceError where no device is left; UserInputError where nothing can be written any more.
        """
        try:
            self._store.replay(self._knowledge)
            self._emit()
            reason = self._loop()
        except KeyboardInterrupt:
            kept = self._pool.stop()
            with interrupt_deferred():
                for finished in kept:
                    self._take_in(finished)
            self._store.abandon()
            reason = StopReason.INTERRUPTED
        except DeviceError:
            self._store.abandon()
            raise
        self._store.mark(reason)
        self._emit()
        return SearchResult(
            stop_reason=reason,
            records=self._knowledge.settled,
            launched_now=self._knowledge.launched - self._launched_before,
        )

    def _loop(self) -> StopReason:
        while True:
            reason = self._hand_out()
            if reason is not None and not self._pool.running:
                return reason
            self._pool.wait()
            with interrupt_deferred():
                finished = self._pool.take()
                if finished is not None:
                    self._take_in(finished)

    def _hand_out(self) -> StopReason | None:
        """Keep the free devices busy; the reason why one is left without work, None where none is."""
        while self._pool.free:
            if self._retry():
                continue
            reason = self._reason_to_stop()
            if reason is not None:
                return reason
            candidate = self._next()
            if candidate is None:
                return StopReason.EXHAUSTED
            if self._knowledge.is_settled(candidate) and self._strategy.is_repeat:
                self._knowledge.begin_again(candidate)
            # One that was launched before is owed its retries, whatever was learnt since.
            elif self._knowledge.attempts(candidate) or not (rejection := self._rejection_of(candidate)):
                self._knowledge.begin(candidate)
            else:
                self._reject(candidate, rejection)
                continue
            self._measure(candidate, self._pool.free[0])
        # Where no device is left, others may come; the time does not wait for them.
        return StopReason.TIME if not self._pool.working and self._is_late() else None

    def _retry(self) -> bool:
        """Hand out a retry that is due: to another device than the last one, which may be the cause."""
        for candidate, last in self._retries.items():
            others = [name for name in self._pool.working if name != last]
            device = next((name for name in self._pool.free if name in others or not others), None)
            if device is not None:
                del self._retries[candidate]
                self._measure(candidate, device)
                return True
        return False

    def _next(self) -> Candidate | None:
        # A candidate whose retries a dead driver owes comes first, or its record would stay unsettled.
        owed = self._knowledge.owed()
        return owed or self._strategy.propose(self._knowledge, self._is_open)

    def _is_open(self, candidate: Candidate) -> bool:
        return self._knowledge.is_available(candidate) and self._rejection_of(candidate) is None

    def _rejection_of(self, candidate: Candidate) -> Rejection | None:
        reasons = (rule.reject(candidate, self._knowledge) for rule in self._filters)
        return next((reason for reason in reasons if reason is not None), None)

    def _reject(self, candidate: Candidate, rejection: Rejection) -> None:
        measurement = rejection.to_measurement(self._pool.device)
        with interrupt_deferred():
            self._record(candidate, measurement, attempt=0, started_at=_now())

    def _measure(self, candidate: Candidate, device: str) -> None:
        if not self._knowledge.is_settled(candidate):  # its trial was told already
            self._store.show_running(candidate)
        self._started_at[candidate] = _now()
        self._pool.hand_out(candidate, device)
        self._emit()

    def _take_in(self, finished: Finished) -> None:
        """Write down what a device found. What it left unsettled is owed a retry."""
        candidate, started_at = finished.candidate, self._started_at.pop(finished.candidate)
        if finished.measurement is not None:
            measurement = check_measurement(finished.measurement, self._budget_bytes)
            attempt = len(self._knowledge.attempts(candidate)) + 1
            self._record(candidate, measurement, attempt=attempt, started_at=started_at)
        if not self._knowledge.is_settled(candidate):
            self._retries[candidate] = finished.device
        self._knowledge.end_again(candidate)

    def _record(
        self, candidate: Candidate, measurement: Measurement, *, attempt: int, started_at: str
    ) -> None:
        told = self._knowledge.record_of(candidate) if self._knowledge.is_settled(candidate) else None
        record = Record(
            digest=candidate.digest(),
            candidate=candidate.identity(),
            trial_number=self._store.trial_of(candidate) if told is None else told.trial_number,
            attempt=attempt,
            started_at=started_at,
            budget_bytes=self._budget_bytes,
            measurement=measurement,
        )
        self._journal.append(record)
        self._knowledge.add(record)
        if self._knowledge.is_settled(candidate) and told is None:
            self._store.tell(self._knowledge.record_of(candidate), self._knowledge)
        self._emit(last=record)

    def _reason_to_stop(self) -> StopReason | None:
        limits = self._limits
        begun = self._knowledge.launched + self._knowledge.under_way
        if limits.trials is not None and begun >= limits.trials:
            return StopReason.TRIALS
        if self._is_late():
            return StopReason.TIME
        if self._stall is not None and not self._strategy.has_plan and self._stall.holds(self._knowledge):
            return StopReason.STALLED
        return None

    def _is_late(self) -> bool:
        limit_s = self._limits.time_limit_s
        return limit_s is not None and self._elapsed_s() >= limit_s

    def _elapsed_s(self) -> float:
        return self._clock() - self._started_s

    def _emit(self, *, last: Record | None = None) -> None:
        knowledge, limits = self._knowledge, self._limits
        done = knowledge.launched
        total, left = self._space.size() - knowledge.rejected, self._strategy.left
        if left is not None:
            total = min(total, done + knowledge.under_way + left)
        if limits.trials is not None:
            total = min(total, limits.trials)
        now = done - self._launched_before
        estimate_s = self._elapsed_s() / now * max(total - done, 0) if now else None
        if limits.time_limit_s is not None and estimate_s is not None:
            estimate_s = min(estimate_s, max(limits.time_limit_s - self._elapsed_s(), 0.0))
        self._on_event(
            SearchEvent(
                done=done,
                pruned=knowledge.pruned,
                failed=knowledge.failed,
                total=total,
                best_tokens_per_s=knowledge.best_tokens_per_s,
                running=self._pool.running,
                last=last,
                seconds_left_estimate=estimate_s,
            )
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
