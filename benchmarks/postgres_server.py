"""A PostgreSQL server of one's own, from the distribution's programs: started, ended and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from ..tuner.records.storage_address import PASSWORD_FILE

USER, DATABASE = "study", "study"
_PASSWORD = "made-up for a test"
_STOP_S = 60.0
_UNPRIVILEGED = ("postgres", "nobody")


def find_programs() -> Path | None:
    """The folder of its programs; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # Debian's are on nobody's PATH
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).resolve().parent if named else None


def lacks() -> str | None:
    """Why no server can be started here, None where one can."""
    if find_programs() is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    if os.geteuid() == 0 and _account() is None:
        return "PostgreSQL refuses to run as root, and there is no other user to run it as"
    return None


def _account() -> pwd.struct_passwd | None:
    for name in _UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


class PostgresServer:
    """A server on the loopback, its data in a folder of its own; a context that ends it."""

    def __init__(self) -> None:
        programs = find_programs()
        assert programs is not None  # who calls asked `lacks`
        folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._programs, self._data, self._log = programs, folder / "data", folder / "server.log"
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._account = _account() if os.geteuid() == 0 else None
        self.password_file = folder / "password"
        self.password_file.write_text(_PASSWORD + "\n", encoding="utf-8")
        if self._account is not None:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
            os.chown(self.password_file, self._account.pw_uid, self._account.pw_gid)
        self._call("initdb", "-D", self._data, "-A", "scram-sha-256", "-U", USER, "--no-sync",
                   "--pwfile", self.password_file)  # fmt: skip

    @contextmanager
    def password_known(self) -> Iterator[None]:
        """Inside, whoever asks the environment finds the password's file there."""
        before = os.environ.get(PASSWORD_FILE)
        os.environ[PASSWORD_FILE] = str(self.password_file)
        try:
            yield
        finally:
            del os.environ[PASSWORD_FILE]
            if before is not None:
                os.environ[PASSWORD_FILE] = before

    @property
    def url(self) -> str:
        """What `--storage` takes: without the password, which is in `password_file`."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Waits until it answers."""
        options = f"-p {self.port} -k {self._data} -c listen_addresses=127.0.0.1"
        self._call("pg_ctl", "-D", self._data, "-l", self._log, "-o", options, "-w", "start")

    def create_database(self) -> None:
        """The database that the URL names, empty."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=_PASSWORD,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")

    def stop(self) -> None:
        """As where its computer fails: connections break, and it recovers at its next start."""
        self._call("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def __enter__(self) -> Self:
        self.start()
        self.create_database()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def _call(self, program: str, *arguments: str | Path) -> None:
        account = self._account
        subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            check=True,
            timeout=_STOP_S,
            cwd=self._folder,
            env={**os.environ, "LC_ALL": "C"},
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
