"""The Optuna study of a run: an ordinary one, kept in step with the journal.

The driver works with a copy in memory. What of it changed goes to the file in one transaction, before a
candidate is measured and after its record is told.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState, create_trial

from ..study.definition import Sampler
from ..study.space import SearchSpace
from ..values.candidate import Candidate
from ..values.errors import UserInputError
from ..values.interrupt import interrupt_deferred
from ..values.record import Record
from .database_errors import DATABASE_ERRORS
from .following import Follower
from .knowledge import Knowledge
from .samplers import Adjusted, Parameters, make_sampler
from .study_format import copy_to_memory, open_study
from .told import DIGEST, OUTCOME, attributes, constraints, state_and_values
from .trial_rows import TrialRows

_LOST = "lost with an earlier study.db: it had no record of its own"
_TRIES = 5
_FIRST_PAUSE_S = 0.1

T = TypeVar("T")


def open_sqlite(path: Path) -> optuna.storages.BaseStorage:
    """The SQLite database of a run, made if missing.

    Raises: UserInputError where it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if not path.exists():
            # Made under another name: a driver killed between two tables leaves no half database behind.
            draft = path.with_suffix(".db.new")
            draft.unlink(missing_ok=True)
            _connect(draft).engine.dispose()
            draft.replace(path)
        return _connect(path)
    except OSError as error:
        raise UserInputError(f"{path}: expected a writable database, got: {error.strerror}") from None
    except DATABASE_ERRORS as error:
        raise _unusable(str(path), error) from error


def _connect(path: Path) -> optuna.storages.RDBStorage:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path.absolute(), check_same_thread=False)
        # The journal is what is fsynced, and this file can be made from it: it need not wait for the disk as
        # well. A killed process still harms nothing.
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    # Connected here and not by the URL, in which Optuna and the versions of SQLAlchemy give different
    # meanings to `?`, `#`, `{` and `%` in a path.
    return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})


class StudyStore:
    """Asks trials of one Optuna study and tells it records; a database that is busy is tried again.

    A study in a database is copied to memory; another program that adds trials to it is an error.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        space: SearchSpace,
        *,
        name: str,
        seed: int,
        startup_trials: int,
        sampler: Sampler = "tpe",
        follower: Follower | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the study, or make it; `pause` waits between tries, in seconds. follower: writes it in its own
        thread.

        Raises: UserInputError where the database cannot be used, or a later version of this program made it.
        """
        self._space, self._pause, self._name = space, pause, name
        self._open: dict[Candidate, Trial] = {}
        self._follower = follower
        self._stored = self._retried(lambda: open_study(storage, name))
        self._study, self._rows = self._stored, None
        if follower is not None:
            self._study = self._retried(lambda: copy_to_memory(self._stored))
            follower.start(lambda: self.trials)
        elif isinstance(storage, optuna.storages.RDBStorage):
            self._study = self._retried(lambda: copy_to_memory(self._stored))
            study_id = self._retried(lambda: storage.get_study_id_from_name(name))
            self._rows = self._retried(lambda: TrialRows(storage.engine, study_id, self.trials))
        chosen = make_sampler(sampler, (seed + len(self.trials)) % 2**32, startup_trials)
        distributions = space.distributions()
        self._sampler = Adjusted(chosen, distributions)
        first = space.parameters_of(next(space.enumerate()))
        self._fixed = {name: value for name, value in first.items() if distributions[name].single()}
        self._study.sampler = self._sampler

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials of the study, by number."""
        return self._study.get_trials(deepcopy=False)

    def ask(self, nearest: Callable[[Candidate], Candidate | None] | None = None) -> Candidate | None:
        """Let the sampler choose a candidate; its trial stays open until told or abandoned.

        nearest: what to take instead of what it chose, which may lie outside of the space: its trial is then
        of that, as if it had been chosen; what is returned is nearest to itself. None: what is of the space.

        None where there is nothing to take. A candidate whose trial is open may come again; its trial remains
        the first.
        """
        nearest = nearest or (lambda chosen: chosen if chosen in self._space else None)
        self._sampler.adjust = lambda sampled: self._adjusted(sampled, nearest)
        while True:
            candidate, trial = self._ask()
            wanted = nearest(candidate)
            if wanted is None:
                self._fail(trial.number)
                return None
            if wanted != candidate or candidate in self._open:
                self._fail(trial.number)
            else:
                self._open[candidate] = trial
            if wanted == candidate:
                return candidate
            # A dead driver left it in the queue: the sampler comes after it.

    def _adjusted(self, sampled: Parameters, nearest: Callable[[Candidate], Candidate | None]) -> Parameters:
        chosen = self._space.suggest(FixedTrial({**self._fixed, **sampled}))
        found = nearest(chosen)
        if found is None:
            return sampled
        return {name: value for name, value in self._space.parameters_of(found).items() if name in sampled}

    def trial_of(self, candidate: Candidate) -> int:
        """Number of the open trial of a candidate, opened now where the sampler did not choose it itself."""
        if candidate not in self._open:
            self._study.enqueue_trial(self._space.parameters_of(candidate))
            asked, trial = self._ask()
            # First in, first out: a candidate that a dead driver left in the queue may come before.
            while asked != candidate:
                self._fail(trial.number)
                asked, trial = self._ask()
            self._open[candidate] = trial
        return self._open[candidate].number

    def show_running(self, candidate: Candidate) -> None:
        """Open the trial of a candidate where it is not, and have it in the database while it is measured."""
        self.trial_of(candidate)
        self._write()

    def _ask(self) -> tuple[Candidate, Trial]:
        trial = self._study.ask()
        candidate = self._space.suggest(trial)
        trial.set_user_attr(DIGEST, candidate.digest())
        return candidate, trial

    def tell(self, record: Record, knowledge: Knowledge) -> None:
        """Close the open trial of a record's candidate with what was found, now or in an earlier trial.

        The database has it then, but for what an earlier trial was told already: that comes with the next.
        """
        if not self._finish(self._open.pop(record.to_candidate()), record, knowledge):
            self._write()

    def abandon(self) -> None:
        """Close all running trials as failed: their candidates were not measured and may be asked again."""
        self._open.clear()
        for trial in self.trials:
            # From the study, not from `_open`: an interrupt may have come before a trial was noted there.
            if trial.state == TrialState.RUNNING:
                self._fail(trial.number)
        self._write()

    def replay(self, knowledge: Knowledge) -> None:
        """Bring the study in step with the journal after a driver died, and close the trials it left open.

        A settled record whose trial is still running is told to it; one that the study does not know at all
        (its file was removed) becomes a new trial of its old number; whatever else is running failed.
        """
        settled = {record.digest: record for record in knowledge.settled}
        for frozen in self.trials:
            digest = frozen.user_attrs.get(DIGEST, "")
            if frozen.state == TrialState.RUNNING:
                record = settled.pop(digest, None)
                if record is None:
                    self._fail(frozen.number)
                else:
                    self._finish(Trial(self._study, frozen._trial_id), record, knowledge)
            elif frozen.state.is_finished() and OUTCOME in frozen.user_attrs:
                settled.pop(digest, None)
        known = len(self.trials)
        for record in sorted(settled.values(), key=lambda record: record.trial_number):
            for _ in range(known, record.trial_number):
                self._study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"message": _LOST}))
            self._add(record, knowledge)
            known = max(known, record.trial_number) + 1
        self._write()

    def mark(self, stop_reason: str) -> None:
        """Note in the study why its last search ended."""
        self._write()
        if self._follower is not None:
            self._follower.mark("stop_reason", stop_reason)
        else:
            self._retried(lambda: self._stored.set_user_attr("stop_reason", stop_reason))

    def _finish(self, trial: Trial, record: Record, knowledge: Knowledge) -> bool:
        """Whether it only repeats what another trial was told."""
        point = knowledge.point_of(record.to_candidate())
        state, values = state_and_values(record, point)
        number, trials = record.trial_number, self.trials
        is_repeated = number != trial.number and number < len(trials) and OUTCOME in trials[number].user_attrs
        for key, value in attributes(record, point, is_repeated=is_repeated).items():
            trial.set_user_attr(key, value)
        for key, value in constraints(record, knowledge).items():
            # The first write wins, with a warning: a driver may have died between it and tell.
            if key not in trial.constraints:
                trial.set_constraint(key, value)
        # Not `Study.tell`, which returns a deep copy (0.3 ms); TPE has nothing to do after a trial.
        trial.storage.set_trial_state_values(trial._trial_id, state, values)
        return is_repeated

    def _fail(self, number: int) -> None:
        self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _add(self, record: Record, knowledge: Knowledge) -> None:
        candidate = record.to_candidate()
        point = knowledge.point_of(candidate)
        state, values = state_and_values(record, point)
        trial = create_trial(
            state=state,
            values=values,
            params=self._space.parameters_of(candidate),
            distributions=self._space.distributions(),
            user_attrs=attributes(record, point, is_repeated=False),
            constraints=constraints(record, knowledge),
        )
        if (started := record.started()) is not None:  # Optuna's times are local, and say of no zone
            trial.datetime_start = started.astimezone().replace(tzinfo=None)
            trial.datetime_complete = trial.datetime_start + timedelta(seconds=record.measurement.wall_s)
        self._study.add_trial(trial)

    def _write(self) -> None:
        rows = self._rows
        if self._follower is not None:
            self._follower.write()
        elif rows is not None:
            self._retried(lambda: rows.write(self.trials))

    def _retried(self, call: Callable[[], T]) -> T:
        def whole_call() -> T:
            # An interrupt inside of a transaction would leave it open, and the database locked for the next.
            with interrupt_deferred():
                return call()

        pause_s = _FIRST_PAUSE_S
        for _ in range(_TRIES - 1):
            try:
                return whole_call()
            except DATABASE_ERRORS:
                self._pause(pause_s * (1 + random.random()))
                pause_s *= 2
        try:
            return whole_call()
        except DATABASE_ERRORS as error:
            raise _unusable(f"study {self._name}", error) from error


def _unusable(where: str, error: Exception) -> UserInputError:
    cause = " ".join(str(error.__cause__ or error).split())
    return UserInputError(
        f"{where}: expected a database that can be used, got: {cause}; records.jsonl keeps every record: "
        "make room, or move a damaged study.db away (it is made again), and start with the same run directory"
    )
