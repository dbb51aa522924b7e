"""A study in a database of several hosts: whose it is now, what it brings here, and what follows it there.

The journal stays the truth, and the database follows it (`following.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import optuna
from sqlalchemy.engine import URL

from ..machine.driver import has_ended, present_driver
from ..machine.lock import LockedError, ProcessLock
from ..values.atomic_write import write_atomically
from ..values.errors import UserInputError
from ..values.record import Record
from ..workloads.spec import SPECS_FILE
from .database_errors import DATABASE_ERRORS, cause_of
from .following import RUN, Follower, is_record_key, record_of
from .journal import Journal, read_records
from .run_directory import RunPaths
from .storage_address import check_address, connect
from .study_format import open_study

_SETTLE_S = 1.0
"""How long a claim lies in the database until it counts: of two made at once, the later stays."""
_TRIES, _PAUSE_S = 4, 2.0

T = TypeVar("T")


@contextmanager
def shared_study(
    text: str | None, root: Path, *, take_over: bool, tell: Callable[[str], None]
) -> Iterator[Follower | None]:
    """The study of a run in the database at an address, claimed for this driver and let go of after; None
    without an address.

    What the database knows more than the run's folder comes into that before.
    root: the run's folder, whose name is the study's. take_over: from a driver that has died.
    Raises: UserInputError where the database cannot be reached, or another driver has the study.
    """
    if text is None:
        if take_over:
            raise UserInputError("--take-over: takes a study over from its database; expected --storage too")
        yield None
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = check_address(text)
    storage = _reached(url, lambda: connect(url))
    study = _reached(url, lambda: open_study(storage, root.name))
    follower = Follower(storage, study, root, shown=_shown(url), tell=tell)
    _reached(url, lambda: _claim(follower, take_over))
    try:
        _reached(url, lambda: _bring_here(study, root, tell))
        yield follower
    finally:
        follower.close()


def _claim(follower: Follower, take_over: bool) -> None:
    held = follower.driver()
    if held is not None and not has_ended(held):
        who = f"{held['host']} (process {held['pid']}) since {held['since']}"
        if not take_over:
            raise UserInputError(
                f"--storage: expected to be the only driver of study {follower.name}, which is driven on "
                f"{who}; wait for it, or, where it has died, add --take-over"
            )
        if follower.beats(held):
            raise UserInputError(
                f"--take-over: expected a driver that has died, got one that is alive on {who}; stop it there"
            )
    own = present_driver()
    follower.claim(own)
    time.sleep(_SETTLE_S)
    now = follower.driver()
    if now is None or now["token"] != own["token"]:
        raise UserInputError(
            f"--storage: expected to be the only driver of study {follower.name}, got another that "
            "began in the same moment; wait for it"
        )


def _bring_here(study: optuna.Study, root: Path, tell: Callable[[str], None]) -> None:
    """Have in the run's folder what only the database has: the whole run, or records of another host's."""
    known = study.user_attrs.get(RUN)
    if known is None:
        return
    paths = RunPaths(root=root)
    is_new = not paths.info.exists()
    if not is_new and paths.info.read_text(encoding="utf-8") != known["info"]:
        raise UserInputError(
            f"--storage: expected the study of {root} there, got another of the name {root.name}; name "
            "another run with --run"
        )
    here = {_key(record) for record in read_records(paths.journal)}
    missing = [record for record in _records(study) if _key(record) not in here]
    if not missing and not is_new:
        return
    root.mkdir(parents=True, exist_ok=True)
    try:
        lock = ProcessLock.take(paths.lock)
    except LockedError as error:
        raise UserInputError(f"{root}: expected nobody there, got process {error.owner}") from None
    try:
        if is_new:
            write_atomically(paths.definition, known["definition"])
            if known["workloads"] is not None:
                write_atomically(root / SPECS_FILE, known["workloads"])
        if missing:
            with Journal(paths.journal) as journal:
                journal.append(*missing)
        if is_new:
            write_atomically(paths.info, known["info"])
    finally:
        lock.close()
    tell(f"{len(missing)} records of {root.name} came from the database")


def _records(study: optuna.Study) -> list[Record]:
    """Every record that the database holds, in the order of the journal that it followed."""
    attributes: list[tuple[str, Any]] = list(study.user_attrs.items())
    for trial in study.get_trials(deepcopy=False):
        attributes += trial.user_attrs.items()
    kept = [value for key, value in attributes if is_record_key(key)]
    return [record_of(value) for value in sorted(kept, key=lambda value: int(value["line"]))]


def _key(record: Record) -> tuple[str, int, str]:
    return record.digest, record.attempt, record.started_at


def _shown(url: URL) -> str:
    """An address for people: without what may be secret."""
    return f"{url.get_backend_name()}://{url.host or ''}/{url.database or ''}"


def _reached(url: URL, call: Callable[[], T]) -> T:
    """Raises: UserInputError where the database is not to be had after some tries."""
    for left in reversed(range(_TRIES)):
        try:
            return call()
        except DATABASE_ERRORS as error:
            if not left:
                raise UserInputError(
                    f"--storage: expected a database at {_shown(url)}, got: {cause_of(error)}; see that it "
                    "runs and lets this user in, as docs/scaling.md says"
                ) from error
            time.sleep(_PAUSE_S)
    raise AssertionError("the last try returns or raises")
