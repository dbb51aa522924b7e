"""The trials of a study as rows of Optuna's tables, SQLite's or PostgreSQL's; changes are one transaction.

Optuna's own storage takes a transaction for every parameter and attribute, some twenty for a trial, and where
a trial is added whole as many queries (42 ms of a processor; here it is 1 ms). The tables are those that its
storage has made, or checked, when it opened the file; the tests compare the rows with its own.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial
from sqlalchemy import Engine

_PARAMS, _VALUES = "trial_params", "trial_values"
_USER_ATTRIBUTES, _SYSTEM_ATTRIBUTES = "trial_user_attributes", "trial_system_attributes"
_ADD = (
    "INSERT INTO trials (study_id, number, state, datetime_start, datetime_complete) VALUES (?, ?, ?, ?, ?) "
    "RETURNING trial_id"
)
_CHANGE = "UPDATE trials SET state = ?, datetime_start = ?, datetime_complete = ? WHERE trial_id = ?"
_COUNT = "SELECT COUNT(*) FROM trials WHERE study_id = ? AND trial_id > ? AND trial_id <= ?"
_IDS = "SELECT trial_id FROM trials WHERE study_id = ? ORDER BY trial_id"
_COLUMNS = {
    _PARAMS: ("param_name", "param_value", "distribution_json"),
    _VALUES: ("objective", "value", "value_type"),
    _USER_ATTRIBUTES: ("key", "value_json"),
    _SYSTEM_ATTRIBUTES: ("key", "value_json"),
}
"""By the table: its columns of what tells the rows of a trial apart, and of what they hold."""
DIALECTS = ("sqlite", "postgresql")
"""Of databases whose tables are written here: they share these statements, but for how values are named."""

Attribute = tuple[int, str, Any]
"""Number of a trial, a key and what JSON holds."""
_Cells = tuple[str | float | None, ...]
_Rows = dict[tuple[str, str | int], _Cells]
"""What the rows of a trial hold, by their table and what tells them apart there."""
_TRIAL = ("trials", "")  # its one row there


class TrialRows:
    """Keeps the trials of one study in its database in step with those in memory."""

    def __init__(self, engine: Engine, study_id: int, trials: Sequence[FrozenTrial]) -> None:
        """`trials` are those that are in the database now, by number."""
        self._engine, self._study_id = engine, study_id
        with engine.connect() as connection:
            self._ids = list(connection.exec_driver_sql(self._own(_IDS), (study_id,)).scalars())
        self._put = {table: self._own(_put(table)) for table in _COLUMNS}
        # Optuna changes no trial that has finished.
        self._open = {trial.number: _rows(trial) for trial in trials if not trial.state.is_finished()}
        self._written: dict[int, FrozenTrial] = {}  # open trials as they were written last

    def write(self, trials: Sequence[FrozenTrial], attributes: Sequence[Attribute] = ()) -> None:
        """Write what is new in the trials of the study, by number; all of it or, where it raises, nothing.

        attributes: to put beside those that trials have, of finished ones too.
        Raises: SQLAlchemyError where the database is busy or broken; RuntimeError where somebody else has
        added trials.
        """
        # Optuna's memory makes a trial anew for every change: one that is the same object has nothing new.
        # With a trial open on each of 64 GPUs all else would take 19 ms a candidate.
        rows = {
            number: _rows(trials[number])
            for number in (*self._open, *range(len(self._ids), len(trials)))
            if trials[number] is not self._written.get(number)
        }
        changed = {number: found for number, found in sorted(rows.items()) if found != self._open.get(number)}
        if not changed and not attributes:
            return
        ids = self._ids.copy()
        with self._engine.begin() as connection:
            put: dict[str, list[_Cells]] = {}
            for number, found in changed.items():
                if number < len(self._ids):
                    connection.exec_driver_sql(self._own(_CHANGE), (*found[_TRIAL], ids[number]))
                else:
                    cells = self._study_id, number, *found[_TRIAL]
                    ids.append(connection.exec_driver_sql(self._own(_ADD), cells).scalar_one())
                known = self._open.get(number, {})
                for (table, key), cells in found.items():
                    if table != "trials" and known.get((table, key)) != cells:
                        put.setdefault(table, []).append((ids[number], key, *cells))
            # Trials are numbered by how many were there before them. Those up to the last one that was there
            # were counted when it was written: ids only grow, and counting all again takes ever longer.
            last, newest = (self._ids or [0])[-1], (ids or [0])[-1]
            added = connection.exec_driver_sql(self._own(_COUNT), (self._study_id, last, newest)).scalar_one()
            if added != len(ids) - len(self._ids):
                raise RuntimeError("another program has added trials to the study of a running search")
            for number, key, value in attributes:
                put.setdefault(_USER_ATTRIBUTES, []).append((ids[number], key, json.dumps(value)))
            for table, new in put.items():
                connection.exec_driver_sql(self._put[table], new)
        self._ids = ids
        for number, found in changed.items():
            self._open[number], self._written[number] = found, trials[number]
            if trials[number].state.is_finished():
                del self._open[number], self._written[number]

    def _own(self, statement: str) -> str:
        """A statement as the database's driver wants it."""
        return statement if self._engine.dialect.paramstyle == "qmark" else statement.replace("?", "%s")


def _put(table: str) -> str:
    """Inserts a row of a trial, or puts it in the place of the one that is there."""
    key, *held = _COLUMNS[table]
    places = ", ".join("?" for _ in (key, *held))
    renewed = ", ".join(f"{column} = excluded.{column}" for column in held)
    return (
        f"INSERT INTO {table} (trial_id, {key}, {', '.join(held)}) VALUES (?, {places}) "
        f"ON CONFLICT (trial_id, {key}) DO UPDATE SET {renewed}"
    )


def as_it_is(trial: FrozenTrial) -> FrozenTrial:
    """A copy that stays so: `Trial` changes later what Optuna's memory handed out, maybe while it is read in
    another thread."""
    seen = copy.copy(trial)
    seen.params, seen.distributions = dict(trial.params), dict(trial.distributions)
    seen.user_attrs, seen.system_attrs = dict(trial.user_attrs), dict(trial.system_attrs)
    return seen


def _rows(trial: FrozenTrial) -> _Rows:
    trial = as_it_is(trial)
    rows: _Rows = {_TRIAL: (trial.state.name, _utc(trial.datetime_start), _utc(trial.datetime_complete))}
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        cells = distribution.to_internal_repr(value), distribution_to_json(distribution)
        rows[_PARAMS, name] = cells
    for objective, value in enumerate(trial.values or ()):
        rows[_VALUES, objective] = _stored(value)
    for key, value in trial.user_attrs.items():
        rows[_USER_ATTRIBUTES, key] = (json.dumps(value),)
    for key, value in trial.system_attrs.items():
        rows[_SYSTEM_ATTRIBUTES, key] = (json.dumps(value),)
    return rows


def _stored(value: float) -> _Cells:
    if math.isinf(value):
        return None, "INF_POS" if value > 0 else "INF_NEG"
    return value, "FINITE"


def _utc(local: datetime | None) -> str | None:
    """Optuna's trials have local times, its tables UTC; both without a time zone."""
    if local is None:
        return None
    return local.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
