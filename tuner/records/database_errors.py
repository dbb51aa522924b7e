"""What a database raises that is busy, away, or not as this version made it."""

from __future__ import annotations

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

# Optuna wraps some of SQLAlchemy's errors and lets others through; RuntimeError: made by another version.
DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError, RuntimeError, OSError)


def cause_of(error: BaseException) -> str:
    """In one line, and without what SQLAlchemy says of its statement and its pages."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    return " ".join(str(cause).split())
