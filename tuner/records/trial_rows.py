"""The trials of a study as rows of Optuna's SQLite tables: all that changed is written in one transaction.

Optuna's own storage takes a transaction for every parameter and attribute, some twenty for a trial, and as
many queries where a trial is added whole (42 ms of a processor; 2 ms here). The tables are Optuna's, of the
schema that its storage has made or checked when it opened the file; the tests compare the rows with its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    func,
    insert,
    select,
    update,
)

_METADATA = MetaData()
_TRIALS = Table(
    "trials",
    _METADATA,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", Integer),
    Column("state", String),
    Column("datetime_start", DateTime),
    Column("datetime_complete", DateTime),
)
_PARAMS = Table(
    "trial_params",
    _METADATA,
    Column("trial_id", Integer),
    Column("param_name", String),
    Column("param_value", Float),
    Column("distribution_json", String),
)
_VALUES = Table(
    "trial_values",
    _METADATA,
    Column("trial_id", Integer),
    Column("objective", Integer),
    Column("value", Float),
    Column("value_type", String),
)
_USER_ATTRIBUTES, _SYSTEM_ATTRIBUTES = (
    Table(
        name,
        _METADATA,
        Column("trial_id", Integer),
        Column("key", String),
        Column("value_json", String),
    )
    for name in ("trial_user_attributes", "trial_system_attributes")
)

_Row = dict[str, Any]
_Rows = dict[tuple[Table, str | int], _Row]
"""The rows that belong to a trial, by their table and what tells them apart there."""


class TrialRows:
    """Keeps the trials of one study in its database in step with those in memory."""

    def __init__(self, engine: Engine, study_id: int, trials: Sequence[FrozenTrial]) -> None:
        """`trials` are those that are in the database now, by number."""
        self._engine, self._study_id = engine, study_id
        in_order = select(_TRIALS.c.trial_id).where(_TRIALS.c.study_id == study_id).order_by("trial_id")
        with engine.connect() as connection:
            self._ids = list(connection.execute(in_order).scalars())
        # Optuna changes no trial that has finished.
        self._open = {trial.number: _rows(trial) for trial in trials if not trial.state.is_finished()}

    def write(self, trials: Sequence[FrozenTrial]) -> None:
        """Write what is new in the trials of the study, by number; all of it or, where it raises, nothing.

        Raises: SQLAlchemyError where the database is busy or broken; RuntimeError where somebody else has
        added trials.
        """
        rows = {
            number: _rows(trials[number]) for number in (*self._open, *range(len(self._ids), len(trials)))
        }
        changed = {number: found for number, found in rows.items() if found != self._open.get(number)}
        if not changed:
            return
        added: list[int] = []
        with self._engine.begin() as connection:
            written: dict[Table, list[_Row]] = {}
            for number in sorted(changed):
                if number < len(self._ids):
                    trial_id = self._ids[number]
                    row = changed[number][_TRIALS, ""]
                    connection.execute(update(_TRIALS).where(_TRIALS.c.trial_id == trial_id), row)
                else:
                    trial_id = self._add(connection, number, changed[number][_TRIALS, ""])
                    added.append(trial_id)
                known = self._open.get(number, {})
                for key, row in changed[number].items():
                    if key[0] is not _TRIALS and known.get(key) != row:
                        written.setdefault(key[0], []).append(row | {"trial_id": trial_id})
            for table, new in written.items():
                connection.execute(insert(table).prefix_with("OR REPLACE"), new)
        self._ids += added
        for number, found in changed.items():
            self._open[number] = found
            if trials[number].state.is_finished():
                del self._open[number]

    def _add(self, connection: Connection, number: int, row: _Row) -> int:
        new = connection.execute(insert(_TRIALS), row | {"number": number, "study_id": self._study_id})
        (trial_id,) = new.inserted_primary_key or (0,)
        earlier = select(func.count()).where(
            _TRIALS.c.study_id == self._study_id, _TRIALS.c.trial_id < trial_id
        )
        if connection.execute(earlier).scalar_one() != number:  # so Optuna numbers them
            raise RuntimeError("another program has added trials to the study of a running search")
        return int(trial_id)


def _rows(trial: FrozenTrial) -> _Rows:
    rows: _Rows = {
        (_TRIALS, ""): {
            "state": trial.state.name,
            "datetime_start": _utc(trial.datetime_start),
            "datetime_complete": _utc(trial.datetime_complete),
        }
    }
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        rows[_PARAMS, name] = {
            "param_name": name,
            "param_value": distribution.to_internal_repr(value),
            "distribution_json": distribution_to_json(distribution),
        }
    for objective, value in enumerate(trial.values or ()):
        rows[_VALUES, objective] = {"objective": objective, **_stored(value)}
    for table, attributes in (
        (_USER_ATTRIBUTES, trial.user_attrs),
        (_SYSTEM_ATTRIBUTES, trial.system_attrs),
    ):
        for key, value in attributes.items():
            rows[table, key] = {"key": key, "value_json": json.dumps(value)}
    return rows


def _stored(value: float) -> _Row:
    if math.isinf(value):
        return {"value": None, "value_type": "INF_POS" if value > 0 else "INF_NEG"}
    return {"value": value, "value_type": "FINITE"}


def _utc(local: datetime | None) -> datetime | None:
    """Optuna's trials have local times, its tables UTC; both without a time zone."""
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)
