"""The database of a study follows its journal: in a thread of its own, which alone waits for it.

A database that is away delays nothing: trials and records are written once it is back. Every record is an
attribute of its trial, so that a run can be made again from the database.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from ..values.errors import UserInputError
from ..values.record import Record
from ..workloads.spec import SPECS_FILE
from .database_errors import DATABASE_ERRORS, cause_of
from .run_directory import RunPaths
from .told import DIGEST
from .trial_calls import TrialCalls
from .trial_rows import DIALECTS, Attribute, TrialRows

DRIVER, RUN = "driver", "run"
"""Attributes of the study: who drives it, and the files of its run's folder."""
_RECORD = "record_"
BEAT_S = 5.0
"""How often a driver shows that it lives; three times that without a sign, and it has died."""
_PAUSES_S = (1.0, 2.0, 5.0)
_GATHER_S = 0.1
"""Between two writes, so that of a fast search several records are one transaction."""
_CATCH_UP_S = 30.0
"""How long the end of a driver waits for a database that is behind."""


def is_record_key(name: str) -> bool:
    """Whether an attribute of a trial, or of the study for a trial that had finished, is a record."""
    return name.rpartition(" ")[2].startswith(_RECORD)


def record_of(value: dict[str, Any]) -> Record:
    """The record that an attribute holds."""
    return Record.model_validate_json(json.dumps(value["record"]))


class Follower:
    """Keeps a study in its database in step with the driver's copy in memory and with the journal.

    shown: the database's name for people. tell: has a line when it is away, and when it is back.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        study: optuna.Study,
        root: Path,
        *,
        shown: str,
        tell: Callable[[str], None],
    ) -> None:
        self.study, self.name = study, study.study_name
        self.storage, self._paths, self._shown, self._tell = storage, RunPaths(root=root), shown, tell
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._trials: Callable[[], Sequence[FrozenTrial]] | None = None
        self._writer: TrialRows | TrialCalls | None = None
        self._own: dict[str, Any] | None = None
        self._beats, self._shown_s = 0, 0.0
        self._read_bytes = self._read_lines = 0
        self._pending: list[tuple[int, dict[str, Any]]] = []  # lines of the journal that are not there yet
        self._there: set[tuple[str, int]] = set()  # digests and attempts of those that were there before
        self._marks: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._changed, self._ended = threading.Event(), threading.Event()
        self._problem: BaseException | None = None
        self._is_away = self._is_behind = False
        self._thread = threading.Thread(target=self._run, name="study-database", daemon=True)

    def driver(self) -> dict[str, Any] | None:
        """Who drives the study by what the database says; None where nobody does."""
        found: dict[str, Any] | None = self.storage.get_study_user_attrs(self._study_id).get(DRIVER)
        return found

    def claim(self, driver: dict[str, Any]) -> None:
        """Note who drives it from now on."""
        self._own = driver
        self._beats += 1
        noted = driver | {"beat": self._beats}
        self.storage.set_study_user_attr(self._study_id, DRIVER, noted)
        self._shown_s = time.monotonic()

    def beats(self, held: dict[str, Any]) -> bool:
        """Whether a driver shows a sign of life; waits for that as long as three should take."""
        ends_s = time.monotonic() + 3 * BEAT_S
        while time.monotonic() < ends_s:
            time.sleep(BEAT_S / 5)
            if self.driver() != held:
                return True
        return False

    def start(self, trials: Callable[[], Sequence[FrozenTrial]]) -> None:
        """Follow from now on. trials: the driver's own, by number; called in another thread.

        The run's folder is there.
        """
        kept = self._paths.root / SPECS_FILE
        self._marks[RUN] = {
            "info": self._paths.info.read_text(encoding="utf-8"),
            "definition": self._paths.definition.read_text(encoding="utf-8"),
            "workloads": kept.read_text(encoding="utf-8") if kept.exists() else None,
        }
        self._trials = trials
        self._thread.start()

    def write(self) -> None:
        """What changed is to be written, soon.

        Raises: UserInputError where another driver has taken the study over; what the thread raised.
        """
        self._changed.set()
        if self._problem is not None:
            raise self._problem

    def mark(self, key: str, value: Any) -> None:
        """Note something in the study, soon."""
        with self._lock:
            self._marks[key] = value
        self._changed.set()

    def close(self) -> None:
        """Have the database catch up, wait for that for a while, and let go of the study."""
        self._ended.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(_CATCH_UP_S)
        elif self._problem is None:
            with contextlib.suppress(*DATABASE_ERRORS):
                self._let_go()
        if self._is_behind:
            self._tell(
                f"the database {self._shown} lacks what was found last; the same command brings it there"
            )

    def _run(self) -> None:
        tries = 0
        while self._problem is None:
            self._changed.wait(BEAT_S)
            is_last = self._ended.is_set()
            self._changed.clear()
            try:
                self._step()
                tries = 0
                if is_last:
                    self._let_go()
                    return
                time.sleep(_GATHER_S)
            except DATABASE_ERRORS as error:
                self._writer = None  # what it wrote last may be there, or not
                self._note_away(error)
                time.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
                self._changed.set()
                tries += 1
            except BaseException as error:  # raised where the search writes next
                self._problem = error

    def _step(self) -> None:
        self._is_behind = True
        self._show_life()
        if self._writer is None:
            self._writer = self._open_writer()
        self._read_journal()
        assert self._trials is not None  # the thread begins with them
        trials = self._trials()  # after the journal: the trial of every record is there
        found, waiting = self._attributes(trials)
        self._writer.write(trials, found)
        self._pending = waiting
        while self._marks:
            with self._lock:
                key, value = next(iter(self._marks.items()))
            self.storage.set_study_user_attr(self._study_id, key, value)
            with self._lock:
                if self._marks.get(key) is value:
                    del self._marks[key]
        self._is_behind = False
        if self._is_away:
            self._is_away = False
            self._tell(f"the database {self._shown} is back, and has caught up")

    def _note_away(self, error: BaseException) -> None:
        if not self._is_away:
            self._is_away = True
            self._tell(
                f"the database {self._shown} cannot be written ({cause_of(error)}); the search goes on, "
                "and it is caught up once it is back"
            )

    def _show_life(self) -> None:
        """Now and then: see that the study is still this driver's, and note that it lives.

        Raises: UserInputError where another has it.
        """
        if time.monotonic() - self._shown_s < BEAT_S / 2:
            return
        assert self._own is not None  # it was claimed before
        held = self.driver()
        if held is not None and held["token"] != self._own["token"]:
            raise UserInputError(
                f"--storage: study {self.name} was taken over by {held['host']} (process {held['pid']}) at "
                f"{held['since']}, so this driver ends; what it measured is kept in {self._paths.root}"
            )
        self.claim(self._own)

    def _let_go(self) -> None:
        self.storage.set_study_user_attr(self._study_id, DRIVER, None)
        if isinstance(self.storage, optuna.storages.RDBStorage):
            self.storage.engine.dispose()

    def _open_writer(self) -> TrialRows | TrialCalls:
        there = self.storage.get_all_trials(self._study_id, deepcopy=False)
        self._there = {
            (value["record"]["digest"], value["record"]["attempt"])
            for attributes in (
                *(t.user_attrs for t in there),
                self.storage.get_study_user_attrs(self._study_id),
            )
            for key, value in attributes.items()
            if is_record_key(key)
        }
        storage = self.storage
        if isinstance(storage, optuna.storages.RDBStorage) and storage.engine.dialect.name in DIALECTS:
            return TrialRows(storage.engine, self._study_id, there)
        return TrialCalls(storage, self._study_id, there)

    def _read_journal(self) -> None:
        try:
            with self._paths.journal.open("rb") as journal:
                journal.seek(self._read_bytes)
                data = journal.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._read_lines += 1
            self._pending.append((self._read_lines, json.loads(line)))
        self._read_bytes += len(whole)

    def _attributes(
        self, trials: Sequence[FrozenTrial]
    ) -> tuple[list[Attribute], list[tuple[int, dict[str, Any]]]]:
        """Records that the database lacks, each for its trial; and lines that have none yet."""
        found, waiting = [], []
        numbers: dict[str, int] | None = None
        for line, record in self._pending:
            digest, attempt = record["digest"], record["attempt"]
            if (digest, attempt) in self._there:
                continue
            number: int | None = record["trial_number"]
            if number is None or number >= len(trials) or trials[number].user_attrs.get(DIGEST) != digest:
                numbers = numbers or {trial.user_attrs.get(DIGEST, ""): trial.number for trial in trials}
                number = numbers.get(digest)
            if number is None:  # it is owed a retry, and its trial was lost: another will be opened
                waiting.append((line, record))
            else:
                found.append((number, f"{_RECORD}{attempt}", {"line": line, "record": record}))
        return found, waiting
