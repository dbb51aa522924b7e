"""Whether a run's journal has every trial that its study was told: one that was lost is not measured anew.

The journal is written first, and the study can be made from it again; not the other way round. Reads the
study's tables without Optuna.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

from ..values.errors import UserInputError

_TOLD = """\
SELECT DISTINCT known.value_json FROM trial_user_attributes AS known
JOIN trial_user_attributes AS told ON told.trial_id = known.trial_id
WHERE known.key = 'digest' AND told.key = 'outcome'"""
"""The candidates of trials that were told what was found (`told.py` names the attributes)."""
_PATIENCE_S = 0.5


def check_agreement(root: Path, journal: Path, database: Path) -> None:
    """See that the journal of a run lacks no trial that its study knows.

    A database that is missing, damaged or busy says nothing here: it is made again, or refused, when opened.

    Raises: UserInputError that says what does not agree, and what to do.
    """
    told = _told(database)
    if not told:
        return
    lines = _lines(journal)
    missing = told - {_digest(line) for line in lines}
    if missing:
        raise UserInputError(
            f"{root}: expected a record of every trial that study.db knows, got {len(told)} trials there and "
            f"{len(lines)} records in records.jsonl; restore that file to go on, remove study.db too to "
            "measure what it lacks once more, or name another run with --run"
        )


def _told(database: Path) -> set[str]:
    """The digests of the candidates whose trials are told, none where the database does not say."""
    if not database.exists():
        return set()
    uri = f"{database.absolute().as_uri()}?mode=rw"  # a writer that died may have left something to roll back
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S)) as connection:
            return {json.loads(text) for (text,) in connection.execute(_TOLD)}
    except (sqlite3.Error, ValueError):
        return set()


def _lines(journal: Path) -> list[bytes]:
    try:
        return journal.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserInputError(f"{journal}: expected a readable journal, got: {error.strerror}") from None


def _digest(line: bytes) -> str | None:
    """The candidate of a record; a line that is none is refused where it is read in earnest."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(line)["digest"])
    return None
