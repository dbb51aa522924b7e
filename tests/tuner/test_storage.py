"""The Optuna study of a run: an ordinary one, in step with the journal whatever happened to either."""

from __future__ import annotations

import functools
import shutil
import signal
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from phase8_tune.tuner.measuring.pool import LocalExecutor
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records.database import StudyStore, open_sqlite
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.progress import SearchResult
from phase8_tune.tuner.search.search import run_search
from phase8_tune.tuner.study.definition import SearchSettings, load_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.record import Record

STUDY = load_definition("cpu")
BUDGET_BYTES = 2**28


def search(root: Path, trials: int) -> SearchResult:
    with LocalExecutor({"one": FormulaMeasurer(BUDGET_BYTES)}, on_loss=print) as pool:
        return run_search(
            STUDY.model_copy(update={"search": SearchSettings(trials=trials)}),
            pool,
            root,
            budget_bytes=BUDGET_BYTES,
            on_event=lambda event: None,
        )


def study_of(root: Path) -> optuna.Study:
    return optuna.load_study(study_name="cpu", storage=open_sqlite(root / "study.db"))


def in_memory_store(**options: object) -> StudyStore:
    storage = optuna.storages.InMemoryStorage()
    return StudyStore(storage, SearchSpace(STUDY), name="s", seed=0, startup_trials=2, **options)  # type: ignore[arg-type]


def record_of(candidate: Candidate, trial_number: int) -> Record:
    return Record(
        digest=candidate.digest(),
        candidate=candidate.identity(),
        trial_number=trial_number,
        attempt=1,
        started_at="2026-01-01T00:00:00+00:00",
        budget_bytes=2**40,
        measurement=FormulaMeasurer(2**40).measure(candidate),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "finished"
    search(root, 6)
    return root


def test_a_run_is_an_ordinary_study_in_an_ordinary_file(finished: Path) -> None:
    trials = optuna.load_study(study_name="cpu", storage=f"sqlite:///{finished / 'study.db'}").trials
    told = {t.user_attrs["digest"]: t for t in trials if "duplicate_of_trial" not in t.user_attrs}
    for record in read_records(finished / "records.jsonl"):
        assert told[record.digest].number == record.trial_number
    assert not (finished / "study.db.new").exists()


@pytest.mark.parametrize("name", ["a?b", "a#b", "50%", "{SCHEMA_VERSION}", "größer als", "a&mode=memory"])
def test_any_name_of_a_folder_will_do(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    open_sqlite(root / "study.db")
    assert sorted(p.name for p in root.iterdir()) == ["study.db"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_a_lost_database_is_made_again_from_the_journal(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    before = {t.user_attrs["digest"]: t for t in study_of(root).trials}
    (root / "study.db").unlink()
    assert search(root, 6).launched_now == 0
    after = {t.user_attrs["digest"]: t for t in study_of(root).trials}
    assert after.keys() == before.keys()
    for digest, trial in after.items():
        assert trial.state == before[digest].state
        assert trial.values == before[digest].values
        assert trial.params == before[digest].params
        assert trial.constraints.keys() == before[digest].constraints.keys() == {"vram"}


def test_a_half_made_database_is_made_again(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    (root / "study.db").rename(root / "study.db.new")
    (root / "study.db.new").write_bytes((root / "study.db.new").read_bytes()[:5000])
    assert search(root, 6).launched_now == 0
    assert len(study_of(root).trials) == 6


def test_a_damaged_database_is_named_with_what_to_do(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    (root / "study.db").write_bytes(b"not a database" * 100)
    with pytest.raises(
        UserInputError, match=r"study\.db: expected a database.*records\.jsonl keeps every"
    ) as caught:
        search(root, 6)
    assert "\n" not in str(caught.value)


def test_a_trial_whose_driver_died_before_telling_it_is_told_its_record(
    finished: Path, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    record = read_records(root / "records.jsonl")[-1]
    with sqlite3.connect(root / "study.db") as database:
        where = f"WHERE number = {record.trial_number}"
        database.execute(f"UPDATE trials SET state = 'RUNNING' {where}")
        database.execute(
            "DELETE FROM trial_user_attributes WHERE key != 'digest' "
            f"AND trial_id = (SELECT trial_id FROM trials {where})"
        )
    count = len(study_of(root).trials)
    search(root, 6)
    trials = study_of(root).trials
    assert len(trials) == count
    assert trials[record.trial_number].state in (TrialState.COMPLETE, TrialState.PRUNED)
    assert trials[record.trial_number].user_attrs["outcome"] == record.measurement.outcome


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite says at once that a database is locked, instead of waiting for seconds."""
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, timeout=0))


@pytest.mark.usefixtures("impatient")
def test_a_busy_database_is_tried_again_and_then_named(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    pauses: list[float] = []
    give_way_after = [3]

    def pause(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == give_way_after[0]:
            other.rollback()

    store = StudyStore(open_sqlite(path), SearchSpace(STUDY), name="s", seed=0, startup_trials=2, pause=pause)
    first, second, *_ = SearchSpace(STUDY).enumerate()
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    store.show_running(first)
    assert len(pauses) == 3
    assert pauses == sorted(pauses)
    other.execute("BEGIN EXCLUSIVE")
    give_way_after[0] = 100
    with pytest.raises(UserInputError, match=r"study s: expected a database.*database is locked") as caught:
        store.show_running(second)
    assert "\n" not in str(caught.value)
    other.rollback()
    other.close()
    store.show_running(second)
    trials = optuna.load_study(study_name="s", storage=open_sqlite(path)).trials
    assert [t.state.name for t in trials] == ["RUNNING", "RUNNING"]


def test_a_candidate_left_in_the_queue_by_a_dead_driver_does_not_take_anothers_place() -> None:
    store = in_memory_store()
    first, second, *_ = SearchSpace(STUDY).enumerate()
    store._study.enqueue_trial(SearchSpace(STUDY).parameters_of(first))
    number = store.trial_of(second)
    assert [(t.number, t.state) for t in store.trials] == [(0, TrialState.FAIL), (1, TrialState.RUNNING)]
    assert number == 1
    assert store.trial_of(second) == 1


def test_a_queue_left_by_a_dead_driver_ends_nothing_that_runs() -> None:
    store = in_memory_store()
    first, second, third, *_ = SearchSpace(STUDY).enumerate()
    running = store.trial_of(first)
    for left in (second, first):
        store._study.enqueue_trial(SearchSpace(STUDY).parameters_of(left))
    store.trial_of(third)
    states = [t.state.name for t in store.trials]
    assert states == ["RUNNING", "FAIL", "FAIL", "RUNNING"]
    assert store.trial_of(first) == running


def test_a_candidate_asked_while_it_runs_keeps_its_first_trial() -> None:
    store = in_memory_store()
    first = next(SearchSpace(STUDY).enumerate())
    number = store.trial_of(first)
    store._study.enqueue_trial(SearchSpace(STUDY).parameters_of(first))
    assert store.ask() == first
    assert store.trial_of(first) == number
    assert [t.state.name for t in store.trials] == ["RUNNING", "FAIL"]


def test_a_resumed_sampler_does_not_repeat_its_beginning() -> None:
    storage = optuna.storages.InMemoryStorage()
    space = SearchSpace(STUDY)
    chosen: list[list[Candidate | None]] = []
    for _ in range(2):
        store = StudyStore(storage, space, name="s", seed=0, startup_trials=50)
        chosen.append([])
        for _ in range(3):
            chosen[-1].append(store.ask())
            store.abandon()
    assert chosen[0] != chosen[1]


def test_a_duplicate_names_the_trial_that_was_measured() -> None:
    store, space = in_memory_store(), SearchSpace(STUDY)
    candidate = next(space.enumerate())
    record = record_of(candidate, store.trial_of(candidate))
    knowledge = Knowledge([record])
    store.tell(record, knowledge)
    assert store.trial_of(candidate) == 1
    store.tell(record, knowledge)
    first, second = store.trials
    assert "duplicate_of_trial" not in first.user_attrs
    assert second.user_attrs["duplicate_of_trial"] == 0
    assert second.values == first.values


def test_what_a_dead_driver_measured_is_no_duplicate_of_the_trial_that_died_with_it() -> None:
    """The first attempt counts, although a second trial ends with it: the first one was never told."""
    store, space = in_memory_store(), SearchSpace(STUDY)
    candidate = next(space.enumerate())
    number = store.trial_of(candidate)
    store.abandon()
    record = record_of(candidate, number)
    assert store.trial_of(candidate) == 1
    store.tell(record, Knowledge([record]))
    assert [t.state.name for t in store.trials] == ["FAIL", "COMPLETE"]
    assert "duplicate_of_trial" not in store.trials[1].user_attrs


@pytest.mark.parametrize("others", [0, 2])
def test_trials_made_again_from_the_journal_have_their_old_numbers(tmp_path: Path, others: int) -> None:
    """A trial without a record of its own left a gap: one that says so takes its place."""
    first, second, *_ = SearchSpace(STUDY).enumerate()
    records = [record_of(second, others + 1), record_of(first, others)]
    store = StudyStore(
        open_sqlite(tmp_path / "study.db"), SearchSpace(STUDY), name="s", seed=0, startup_trials=2
    )
    store.replay(Knowledge(records))
    trials = optuna.load_study(study_name="s", storage=open_sqlite(tmp_path / "study.db")).trials
    assert [t.number for t in trials] == list(range(others + 2))
    assert {t.state.name for t in trials[:others]} <= {"FAIL"}
    assert [t.user_attrs["digest"] for t in trials[others:]] == [first.digest(), second.digest()]


def test_an_interrupt_waits_for_the_end_of_a_call_to_the_database(tmp_path: Path) -> None:
    store = StudyStore(
        open_sqlite(tmp_path / "study.db"), SearchSpace(STUDY), name="s", seed=0, startup_trials=1
    )
    ends: list[str] = []

    def call() -> None:
        signal.raise_signal(signal.SIGINT)
        ends.append("whole")

    with pytest.raises(KeyboardInterrupt):
        store._retried(call)
    assert ends == ["whole"]
    store.ask()  # the database is not locked
