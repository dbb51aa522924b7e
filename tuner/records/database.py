"""The Optuna study of a run: an ordinary one, kept in step with the journal."""

from __future__ import annotations

import random
import sqlite3
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from ..study.space import SearchSpace
from ..values.candidate import Candidate
from ..values.errors import UserInputError
from ..values.format_versions import FORMAT_KEY, later_format
from ..values.interrupt import interrupt_deferred
from ..values.record import Record
from .frontier import to_points
from .knowledge import Knowledge

FORMAT_VERSION = 1  # of the attributes; the tables are Optuna's, which knows its own version
METRIC_NAMES = ["tokens_per_s", "peak_bytes", "parameters"]
DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]
_CONSTRAINT = "vram"
_DIGEST = "digest"
_OUTCOME = "outcome"
_TRIES = 5
_FIRST_PAUSE_S = 0.1

# Optuna wraps some of SQLAlchemy's errors and lets others through; RuntimeError: made by another version.
_DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError, RuntimeError)

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
    except _DATABASE_ERRORS as error:
        raise _unusable(str(path), error) from error


def _connect(path: Path) -> optuna.storages.RDBStorage:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path.absolute(), check_same_thread=False)
        # The journal is what is fsynced, and this file can be made from it: some 20 commits a trial need not
        # wait for the disk (12 trials took 8.1 s with, 1.6 s without). A killed process still harms nothing.
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    # Connected here and not by the URL, in which Optuna and the versions of SQLAlchemy give different
    # meanings to `?`, `#`, `{` and `%` in a path.
    return optuna.storages.RDBStorage(
        "sqlite:///study.db", engine_kwargs={"pool_pre_ping": True, "creator": connect}
    )


class StudyStore:
    """Asks trials of one Optuna study and tells it records; calls are retried where the database is busy."""

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        space: SearchSpace,
        *,
        name: str,
        seed: int,
        startup_trials: int,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the study, or make it; `pause` waits between tries, in seconds.

        Raises: UserInputError where the database cannot be used, or a later version of this program made it.
        """
        self._space, self._pause, self._name = space, pause, name
        self._open: dict[str, Trial] = {}
        self._study = self._retried(
            lambda: optuna.create_study(
                storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True
            )
        )
        self._agree_on_format()
        known = len(self._retried(lambda: self._study.get_trials(deepcopy=False)))
        # A resumed study goes on with other random numbers than it began with, or it would begin again. The
        # lie is that what runs on other devices turns out bad: so the next one is asked elsewhere.
        self._study.sampler = optuna.samplers.TPESampler(
            multivariate=True,
            seed=(seed + known) % 2**32,
            n_startup_trials=startup_trials,
            constant_liar=True,
        )
        with warnings.catch_warnings():  # metric names are marked experimental since Optuna 3.2
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._retried(lambda: self._study.set_metric_names(METRIC_NAMES))

    def _agree_on_format(self) -> None:
        noted = self._retried(lambda: self._study.user_attrs)
        if later := later_format(noted, FORMAT_VERSION):
            raise UserInputError(f"study {self._name} of study.db: {later}")
        if FORMAT_KEY not in noted:
            self._retried(lambda: self._study.set_user_attr(FORMAT_KEY, FORMAT_VERSION))

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials of the study."""
        return self._retried(lambda: self._study.get_trials(deepcopy=False))

    def ask(self) -> Candidate:
        """Let the sampler choose a candidate; its trial stays open until told or abandoned.

        A candidate whose trial is open may come again; its trial remains the first.
        """
        candidate, trial = self._ask()
        if candidate.digest() in self._open:
            self._retried(lambda: self._fail(trial.number))
        else:
            self._open[candidate.digest()] = trial
        return candidate

    def trial_of(self, candidate: Candidate) -> int:
        """Number of the open trial of a candidate, opened now where the sampler did not choose it itself."""
        digest = candidate.digest()
        if digest not in self._open:
            self._retried(lambda: self._study.enqueue_trial(self._space.parameters_of(candidate)))
            asked, trial = self._ask()
            # First in, first out: a candidate that a dead driver left in the queue may come before.
            while asked != candidate:
                self._retried(lambda number=trial.number: self._fail(number))  # type: ignore[misc]
                asked, trial = self._ask()
            self._open[digest] = trial
        return self._open[digest].number

    def _ask(self) -> tuple[Candidate, Trial]:
        trial = self._retried(self._study.ask)
        candidate = self._retried(lambda: self._space.suggest(trial))
        self._retried(lambda: trial.set_user_attr(_DIGEST, candidate.digest()))
        return candidate, trial

    def tell(self, record: Record, knowledge: Knowledge) -> None:
        """Close the open trial of a record's candidate with what was found, now or in an earlier trial."""
        self._finish(self._open.pop(record.digest), record, knowledge)

    def abandon(self) -> None:
        """Close all running trials as failed: their candidates were not measured and may be asked again."""
        self._open.clear()
        for trial in self.trials:
            # From the study, not from `_open`: an interrupt may have come before a trial was noted there.
            if trial.state == TrialState.RUNNING:
                self._retried(lambda number=trial.number: self._fail(number))  # type: ignore[misc]

    def replay(self, knowledge: Knowledge) -> None:
        """Bring the study in step with the journal after a driver died, and close the trials it left open.

        A settled record whose trial is still running is told to it; one that the study does not know at all
        (its file was removed) becomes a new trial; whatever else is running failed.
        """
        settled = {record.digest: record for record in knowledge.settled}
        for frozen in self.trials:
            digest = frozen.user_attrs.get(_DIGEST, "")
            if frozen.state == TrialState.RUNNING:
                record = settled.pop(digest, None)
                if record is None:
                    self._retried(lambda number=frozen.number: self._fail(number))  # type: ignore[misc]
                else:
                    self._finish(Trial(self._study, frozen._trial_id), record, knowledge)
            elif frozen.state.is_finished() and _OUTCOME in frozen.user_attrs:
                settled.pop(digest, None)
        for record in settled.values():
            self._add(record, knowledge)

    def mark(self, stop_reason: str) -> None:
        """Note in the study why its last search ended."""
        self._retried(lambda: self._study.set_user_attr("stop_reason", stop_reason))

    def _finish(self, trial: Trial, record: Record, knowledge: Knowledge) -> None:
        state, values = _state_and_values(record)
        for key, value in _attributes(record, trial.number).items():
            self._retried(lambda key=key, value=value: trial.set_user_attr(key, value))  # type: ignore[misc]
        for key, value in _constraints(record, knowledge).items():
            # The first write wins, with a warning: a driver may have died between it and tell.
            if key not in trial.constraints:
                self._retried(lambda key=key, value=value: trial.set_constraint(key, value))  # type: ignore[misc]
        self._retried(lambda: self._study.tell(trial, values, state, skip_if_finished=True))

    def _fail(self, number: int) -> None:
        self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _add(self, record: Record, knowledge: Knowledge) -> None:
        state, values = _state_and_values(record)
        trial = create_trial(
            state=state,
            values=values,
            params=self._space.parameters_of(record.to_candidate()),
            distributions=self._space.distributions(),
            user_attrs=_attributes(record, record.trial_number),
            constraints=_constraints(record, knowledge),
        )
        self._retried(lambda: self._study.add_trial(trial))

    def _retried(self, call: Callable[[], T]) -> T:
        def whole_call() -> T:
            # An interrupt inside of a transaction would leave it open, and the database locked for the next.
            with interrupt_deferred():
                return call()

        pause_s = _FIRST_PAUSE_S
        for _ in range(_TRIES - 1):
            try:
                return whole_call()
            except _DATABASE_ERRORS:
                self._pause(pause_s * (1 + random.random()))
                pause_s *= 2
        try:
            return whole_call()
        except _DATABASE_ERRORS as error:
            raise _unusable(f"study {self._name}", error) from error


def _state_and_values(record: Record) -> tuple[TrialState, list[float] | None]:
    points = to_points([record])
    if points:
        return TrialState.COMPLETE, [points[0].tokens_per_s, points[0].peak_bytes, points[0].parameters]
    return (TrialState.PRUNED if record.measurement.outcome.is_memory else TrialState.FAIL), None


def _constraints(record: Record, knowledge: Knowledge) -> dict[str, float]:
    """The share of the budget by which a record is over it; none where it was not about memory."""
    outcome = record.measurement.outcome
    return {_CONSTRAINT: knowledge.violation(record)} if record.fits or outcome.is_memory else {}


def _attributes(record: Record, trial_number: int) -> dict[str, Any]:
    """What a trial carries besides its values: PRUNED ones have none, so the figures are here too."""
    measurement = record.measurement
    attributes: dict[str, Any] = {
        _DIGEST: record.digest,
        "candidate": record.candidate,
        "attempt": record.attempt,
        "message": measurement.message,
        "peak_bytes": measurement.peak_bytes,
        "parameters": measurement.parameters,
    }
    attributes["basis"] = "measured" if measurement.predicted is None else "predicted"
    for point in to_points([record]):
        attributes |= {"tokens_per_s": point.tokens_per_s, "tokens_per_s_std": point.tokens_per_s_std}
    if trial_number != record.trial_number:
        attributes["duplicate_of_trial"] = record.trial_number
    # Last: a trial that has it has everything.
    return attributes | {_OUTCOME: str(measurement.outcome)}


def _unusable(where: str, error: Exception) -> UserInputError:
    cause = " ".join(str(error.__cause__ or error).split())
    return UserInputError(
        f"{where}: expected a database that can be used, got: {cause}; records.jsonl keeps every record: "
        "make room, or move a damaged study.db away (it is made again), and start with the same run directory"
    )
