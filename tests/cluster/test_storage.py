"""A study in a database that follows the journal: one driver, nothing lost, and a run made again from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from phase8_tune.tuner.machine.driver import has_ended, present_driver
from phase8_tune.tuner.measuring.pool import LocalExecutor
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records import following, shared_study
from phase8_tune.tuner.records.following import DRIVER, Follower, is_record_key
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.search.progress import SearchEvent, StopReason
from phase8_tune.tuner.search.search import run_search
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.outcome import Outcome

from ..tuner.search_bench import ALL_TINY, BUDGET_BYTES, TINY

ELSEWHERE = {
    "host": "gpu07",
    "pid": 7,
    "since": "2026-11-29T08:00:00+00:00",
    "system": "another",
    "token": "x",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for seconds here."""
    monkeypatch.setattr(following, "BEAT_S", 0.05)
    monkeypatch.setattr(following, "_PAUSES_S", (0.01,))
    monkeypatch.setattr(following, "_GATHER_S", 0.0)
    monkeypatch.setattr(shared_study, "_SETTLE_S", 0.0)
    monkeypatch.setattr(shared_study, "_PAUSE_S", 0.0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'shared.db'}"


def search(
    root: Path,
    url: str,
    on_event: Callable[[SearchEvent], None] = lambda event: None,
    *,
    take_over: bool = False,
    told: list[str] | None = None,
    before: Callable[[Follower], None] = lambda follower: None,
) -> StopReason:
    """A session of a search, some of whose candidates are measured twice."""
    ends = {c.digest(): [Outcome.INTERFERENCE, Outcome.OK] for c in ALL_TINY[::5]}
    measurer = FormulaMeasurer(BUDGET_BYTES, outcomes=ends)
    tell = (told if told is not None else []).append
    with shared_study.shared_study(url, root, take_over=take_over, tell=tell) as follower:
        assert follower is not None
        before(follower)
        with LocalExecutor({"one": measurer}, on_loss=print) as executor:
            return run_search(
                TINY, executor, root, budget_bytes=BUDGET_BYTES, on_event=on_event, follower=follower
            ).stop_reason


def interrupt_at(count: int) -> Callable[[SearchEvent], None]:
    def interrupt(happened: SearchEvent) -> None:
        if happened.last is not None and happened.done == count:
            raise KeyboardInterrupt

    return interrupt


def study_of(url: str) -> optuna.Study:
    return optuna.load_study(study_name="mine", storage=url)


def kept(study: optuna.Study) -> list[dict[str, Any]]:
    """The records in a database, in the journal's order."""
    attributes = [*study.user_attrs.items(), *(pair for t in study.trials for pair in t.user_attrs.items())]
    found = [value for key, value in attributes if is_record_key(key)]
    return [value["record"] for value in sorted(found, key=lambda value: value["line"])]


def journal_of(root: Path) -> list[dict[str, Any]]:
    return [record.as_written().model_dump(mode="json") for record in read_records(root / "records.jsonl")]


def test_every_record_is_an_attribute_of_its_trial(tmp_path: Path, url: str) -> None:
    assert search(tmp_path / "mine", url) is StopReason.EXHAUSTED
    study, records = study_of(url), journal_of(tmp_path / "mine")
    assert kept(study) == records
    assert len(records) > len(ALL_TINY)
    for trial in study.trials:
        assert all(
            value["record"]["digest"] == trial.user_attrs["digest"]
            for key, value in trial.user_attrs.items()
            if is_record_key(key)
        )
    assert study.user_attrs["stop_reason"] == "exhausted"
    assert study.user_attrs[DRIVER] is None
    assert not (tmp_path / "mine" / "study.db").exists()


def test_another_host_goes_on_from_the_database_alone(tmp_path: Path, url: str) -> None:
    here, there = tmp_path / "here" / "mine", tmp_path / "there" / "mine"
    assert search(here, url, interrupt_at(5)) is StopReason.INTERRUPTED
    before = (here / "records.jsonl").read_bytes()
    told: list[str] = []
    assert search(there, url, told=told) is StopReason.EXHAUSTED
    assert told == [f"{len(before.splitlines())} records of mine came from the database"]
    after = (there / "records.jsonl").read_bytes()
    assert after.startswith(before)
    assert (here / "run.json").read_bytes() == (there / "run.json").read_bytes()
    done = [t for t in study_of(url).trials if t.state == optuna.trial.TrialState.COMPLETE]
    assert len({t.user_attrs["digest"] for t in done}) == len(done)


def test_a_study_that_is_driven_is_refused_with_its_host_and_since_when(tmp_path: Path, url: str) -> None:
    search(tmp_path / "mine", url, interrupt_at(2))
    study_of(url).set_user_attr(DRIVER, ELSEWHERE)
    with pytest.raises(UserInputError, match=r"gpu07 \(process 7\) since 2026-11-29T08:00:00.*--take-over"):
        search(tmp_path / "mine", url)


def test_a_driver_that_died_is_taken_over(tmp_path: Path, url: str) -> None:
    search(tmp_path / "mine", url, interrupt_at(2))
    study_of(url).set_user_attr(DRIVER, ELSEWHERE)
    assert search(tmp_path / "mine", url, take_over=True) is StopReason.EXHAUSTED
    assert len({record["digest"] for record in journal_of(tmp_path / "mine")}) == len(ALL_TINY)


def test_a_driver_that_lives_is_not_taken_over(tmp_path: Path, url: str) -> None:
    def beat_meanwhile(follower: Follower) -> None:
        with pytest.raises(UserInputError, match="alive"):
            search(tmp_path / "other" / "mine", url, take_over=True)

    def elsewhere(follower: Follower) -> None:
        follower.claim(ELSEWHERE)
        follower.start(list)
        beat_meanwhile(follower)
        raise KeyboardInterrupt

    search(tmp_path / "mine", url, interrupt_at(1))
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "mine", url, before=elsewhere)


def test_one_that_ended_on_this_computer_needs_no_option(tmp_path: Path, url: str) -> None:
    search(tmp_path / "mine", url, interrupt_at(2))
    study_of(url).set_user_attr(DRIVER, present_driver() | {"started": 1})
    assert search(tmp_path / "mine", url) is StopReason.EXHAUSTED


def test_a_driver_is_known_to_live_or_to_have_ended_only_where_it_ran() -> None:
    assert not has_ended(present_driver())
    assert has_ended(present_driver() | {"started": 1})
    assert not has_ended(ELSEWHERE)


def test_a_driver_that_was_taken_over_ends_and_keeps_what_it_has(tmp_path: Path, url: str) -> None:
    taken = ELSEWHERE | {"since": "later"}

    def take(happened: SearchEvent) -> None:
        if happened.done == 3:
            study_of(url).set_user_attr(DRIVER, taken)
            time.sleep(0.2)  # more than the half of a beat

    def slow(happened: SearchEvent) -> None:
        take(happened)
        time.sleep(0.02)

    with pytest.raises(UserInputError, match=r"taken over by gpu07 \(process 7\) at later"):
        search(tmp_path / "mine", url, slow)
    assert len(journal_of(tmp_path / "mine")) >= 3
    assert study_of(url).user_attrs[DRIVER] == taken


def refusing(is_away: Callable[[], bool]) -> Callable[[Follower], None]:
    """Has the database of a follower refuse while it is away."""

    def refuse(*arguments: Any) -> None:
        if is_away():
            raise OperationalError("SELECT 1", None, Exception("connection refused"))

    def before(follower: Follower) -> None:
        assert isinstance(follower.storage, optuna.storages.RDBStorage)
        event.listen(follower.storage.engine, "begin", refuse)

    return before


def test_a_database_that_is_away_delays_nothing_and_catches_up(tmp_path: Path, url: str) -> None:
    """It is away from the third candidate on until all are measured."""
    told: list[str] = []
    is_away = False

    def watch(happened: SearchEvent) -> None:
        nonlocal is_away
        is_away = 3 <= happened.done < len(ALL_TINY)

    before = refusing(lambda: is_away)
    assert search(tmp_path / "mine", url, watch, told=told, before=before) is StopReason.EXHAUSTED
    assert kept(study_of(url)) == journal_of(tmp_path / "mine")
    assert "cannot be written (connection refused)" in told[0]
    assert told[-1].endswith("is back, and has caught up")


def test_one_that_stays_away_is_said_and_the_next_session_brings_it_there(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_CATCH_UP_S", 0.1)
    told: list[str] = []
    is_away = False

    def watch(happened: SearchEvent) -> None:
        nonlocal is_away
        is_away = True
        interrupt_at(6)(happened)

    search(tmp_path / "mine", url, interrupt_at(2))
    was_there = len(kept(study_of(url)))
    search(tmp_path / "mine", url, watch, told=told, before=refusing(lambda: is_away))
    assert told[-1].endswith("lacks what was found last; the same command brings it there")
    assert len(kept(study_of(url))) == was_there
    is_away = False
    time.sleep(0.1)  # until the session before has seen that it may write
    study_of(url).set_user_attr(DRIVER, None)
    assert search(tmp_path / "mine", url) is StopReason.EXHAUSTED
    assert kept(study_of(url)) == journal_of(tmp_path / "mine")


def test_a_storage_that_is_no_table_follows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log")))
    monkeypatch.setattr(shared_study, "connect", lambda url: storage)
    root = tmp_path / "mine"
    assert search(root, "redis://host/0", interrupt_at(7)) is StopReason.INTERRUPTED
    assert search(root, "redis://host/0") is StopReason.EXHAUSTED
    study = optuna.load_study(study_name="mine", storage=storage)
    assert kept(study) == journal_of(root)
    done = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    assert len(done) == len({t.user_attrs["digest"] for t in done}) > 5


def test_a_study_of_that_name_that_is_another_is_refused(tmp_path: Path, url: str) -> None:
    search(tmp_path / "mine", url, interrupt_at(1))
    other = tmp_path / "other" / "mine"
    search(other, f"sqlite:///{tmp_path / 'another.db'}", interrupt_at(1))
    (other / "run.json").write_text(
        (other / "run.json").read_text().replace('"budget_bytes": ', '"budget_bytes": 1')
    )
    with pytest.raises(UserInputError, match="another of the name mine"):
        search(other, url)


def test_take_over_without_a_database_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(UserInputError, match="expected --storage too"),
        shared_study.shared_study(None, tmp_path, take_over=True, tell=print),
    ):
        pass


def test_a_database_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"expected a database at sqlite://.*unable to open"):
        search(tmp_path / "mine", f"sqlite:///{tmp_path / 'no' / 'folder.db'}")
