"""The database of `--storage`: its address, its password from elsewhere, and the way to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ..values.errors import UserInputError

PASSWORD, PASSWORD_FILE = "PHASE8_TUNE_STORAGE_PASSWORD", "PHASE8_TUNE_STORAGE_PASSWORD_FILE"
_POSTGRESQL = ("postgres", "postgresql")
_CONNECT_S, _SILENT_MS = 10, 30_000
"""How long a connection may take, and how long one may be silent until it counts as lost."""


def check_address(text: str) -> URL:
    """The address of an Optuna storage, which holds no password.

    Raises: UserInputError, which does not repeat a password.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise UserInputError(
            "--storage: expected the URL of an Optuna storage such as postgresql://USER@HOST/DATABASE, got "
            "another text"
        ) from None
    if url.password is not None or any("password" in key.lower() for key in url.query):
        raise UserInputError(
            "--storage: expected a URL without a password, as the command line is written into the run and "
            f"seen by others, got one for {url.host}; put it into {PASSWORD}, or its file's name into "
            f"{PASSWORD_FILE}"
        )
    return url.set(drivername="postgresql+psycopg") if url.drivername in _POSTGRESQL else url


def connect(url: URL) -> optuna.storages.BaseStorage:
    """The storage, with its tables, which are made where they are missing.

    Raises: UserInputError where its driver is not installed or the password's file cannot be read; what the
    database raises.
    """
    password = _password()
    if not url.get_backend_name().startswith(("postgresql", "sqlite", "mysql", "mariadb", "oracle", "mssql")):
        return optuna.storages.get_storage(str(url if password is None else url.set(password=password)))
    arguments: dict[str, Any] = {} if password is None else {"password": password}
    if url.get_backend_name() == "postgresql":
        # Of a database whose encoding is SQL_ASCII texts came as bytes otherwise.
        arguments |= {
            "connect_timeout": _CONNECT_S,
            "tcp_user_timeout": _SILENT_MS,
            "client_encoding": "utf8",
        }
    try:
        return optuna.storages.RDBStorage(
            str(url), engine_kwargs={"pool_pre_ping": True, "connect_args": arguments}
        )
    except ImportError as error:
        known = "; pip install 'phase8-tune[postgres]'" if url.get_backend_name() == "postgresql" else ""
        raise UserInputError(
            f"--storage: expected the driver of {url.drivername} to be installed, got: {error}{known}"
        ) from None


def _password() -> str | None:
    """From the environment, which no process that is started from now on has it from, or from a file.

    Raises: UserInputError.
    """
    global _taken
    given = os.environ.pop(PASSWORD, None)
    if given is not None:
        _taken = given
    if _taken is not None:
        return _taken
    name = os.environ.get(PASSWORD_FILE)
    if name is None:
        return None
    try:
        return Path(name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserInputError(
            f"{PASSWORD_FILE}: expected a file with the password, got {name}, which cannot be read "
            f"({type(error).__name__})"
        ) from None


_taken: str | None = None
