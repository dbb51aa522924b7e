"""Trials written to Optuna's tables as Optuna would have written them, in few transactions and whole ones."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import Engine, event

from phase8_tune.tuner.measuring.pool import LocalExecutor
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records.database import StudyStore, open_sqlite
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.search import run_search
from phase8_tune.tuner.study.definition import StudyDefinition, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.outcome import Outcome

from .report_records import make_record
from .search_bench import ALL_TINY, BUDGET_BYTES, ROWS, TINY

TABLES = {
    "trials": "number, state, datetime_start, datetime_complete",
    "trial_params": "param_name, param_value, distribution_json",
    "trial_values": "objective, value, value_type",
    "trial_user_attributes": "key, value_json",
    "trial_system_attributes": "key, value_json",
}


def search(root: Path, definition: StudyDefinition, on_event: Any = lambda event: None) -> None:
    """In which some are measured twice, some run out of memory and others are not launched for that."""
    ends = {c.digest(): [Outcome.INTERFERENCE, Outcome.OK] for c in ALL_TINY[::5]}
    ends |= {c.digest(): [Outcome.OOM] for c in ALL_TINY if c.batch_size == 4 and c.n_seq == 256}
    pool = LocalExecutor({"one": FormulaMeasurer(BUDGET_BYTES, outcomes=ends)}, on_loss=print)
    with pool:
        run_search(definition, pool, root, budget_bytes=BUDGET_BYTES, on_event=on_event)


def rows_of(path: Path) -> dict[str, list[Any]]:
    """The rows of every table by the numbers of their trials; of attributes Optuna keeps no order."""
    found = {}
    with sqlite3.connect(path) as database:
        for table, columns in TABLES.items():
            order = "key" if "key" in columns else f"{table}.rowid"
            joined = "trials" if table == "trials" else f"{table} JOIN trials USING (trial_id)"
            query = f"SELECT number, {columns} FROM {joined} ORDER BY number, {order}"
            found[table] = database.execute(query).fetchall()
    return found


@contextmanager
def commits() -> Iterator[list[int]]:
    """A list that gets one longer with every transaction that is committed."""
    seen: list[int] = []

    def note(_: Any) -> None:
        seen.append(1)

    event.listen(Engine, "commit", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "commit", note)


def test_the_tables_are_as_optuna_would_have_written_them(tmp_path: Path) -> None:
    search(tmp_path / "run", TINY)
    ours = optuna.load_study(study_name="tiny", storage=open_sqlite(tmp_path / "run" / "study.db"))
    copy = optuna.create_study(
        storage=open_sqlite(tmp_path / "copy.db"), study_name="tiny", directions=ours.directions
    )
    copy.add_trials(ours.trials)
    found, expected = rows_of(tmp_path / "run" / "study.db"), rows_of(tmp_path / "copy.db")
    assert {t.state for t in ours.trials} >= {TrialState.COMPLETE, TrialState.PRUNED}
    for table in TABLES:
        assert found[table] == expected[table]
        assert found[table]


@pytest.mark.parametrize("definition", [TINY, parse_definition(ROWS, "rows")], ids=["axes", "rows"])
def test_a_candidate_takes_two_transactions(tmp_path: Path, definition: StudyDefinition) -> None:
    counts: list[int] = []
    with commits() as committed:
        search(tmp_path / "run", definition, lambda event: counts.append(len(committed)))
    counts.pop()  # which comes after the reason to stop was noted
    assert 0 < counts[-1] - counts[0] <= 2 * SearchSpace(definition).size()


def test_a_trial_is_in_the_file_as_soon_as_it_runs_and_as_soon_as_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    store = StudyStore(open_sqlite(path), SearchSpace(TINY), name="s", seed=0, startup_trials=2)

    def in_file() -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name="s", storage=f"sqlite:///{path}").trials

    first, second, third, *_ = ALL_TINY
    store.show_running(first)
    store.show_running(second)
    assert [(t.state.name, t.user_attrs["digest"]) for t in in_file()] == [
        ("RUNNING", first.digest()),
        ("RUNNING", second.digest()),
    ]
    record = make_record(second, trial_number=1)
    store.tell(record, Knowledge([record]))
    assert [t.state.name for t in in_file()] == ["RUNNING", "COMPLETE"]
    assert in_file()[1].user_attrs["outcome"] == "ok"
    # One that is not launched comes with what it is told.
    store.trial_of(third)
    assert len(in_file()) == 2
    rejected = make_record(third, trial_number=2, outcome=Outcome.PREDICTED_OVER_BUDGET, attempt=0)
    store.tell(rejected, Knowledge([rejected]))
    assert [t.state.name for t in in_file()] == ["RUNNING", "COMPLETE", "PRUNED"]
    assert [{**vars(t), "_trial_id": 0} for t in in_file()] == [
        {**vars(t), "_trial_id": 0} for t in store.trials
    ]


def test_a_transaction_that_fails_leaves_nothing_and_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    failed: list[str] = []
    meanwhile: list[dict[str, list[Any]]] = []

    def fail_once(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "trial_user_attributes" in statement and not failed:
            failed.append(statement)
            raise sqlite3.OperationalError("disk I/O error")

    store = StudyStore(
        open_sqlite(path),
        SearchSpace(TINY),
        name="s",
        seed=0,
        startup_trials=2,
        pause=lambda s: meanwhile.append(rows_of(path)),
    )
    store.show_running(ALL_TINY[0])
    before = rows_of(path)
    record = make_record(ALL_TINY[0])
    event.listen(Engine, "before_cursor_execute", fail_once)
    try:
        store.tell(record, Knowledge([record]))
    finally:
        event.remove(Engine, "before_cursor_execute", fail_once)
    assert meanwhile == [before]
    (trial,) = optuna.load_study(study_name="s", storage=open_sqlite(path)).trials
    assert (trial.state.name, trial.user_attrs["outcome"]) == ("COMPLETE", "ok")


def test_trials_that_another_program_adds_meanwhile_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    store = StudyStore(
        open_sqlite(path), SearchSpace(TINY), name="s", seed=0, startup_trials=2, pause=lambda s: None
    )
    store.show_running(ALL_TINY[0])
    optuna.load_study(study_name="s", storage=open_sqlite(path)).enqueue_trial({})
    with pytest.raises(UserInputError, match="another program has added trials"):
        store.show_running(ALL_TINY[1])
    assert len(rows_of(path)["trials"]) == 2


def test_values_without_end_are_kept(tmp_path: Path) -> None:
    store = StudyStore(open_sqlite(tmp_path / "a.db"), SearchSpace(TINY), name="s", seed=0, startup_trials=2)
    whole = optuna.trial.create_trial(values=[float("inf"), float("-inf"), 1.0])
    store._study.add_trial(whole)
    store.mark("interrupted")
    (kept,) = optuna.load_study(study_name="s", storage=open_sqlite(tmp_path / "a.db")).trials
    assert kept.values == whole.values
