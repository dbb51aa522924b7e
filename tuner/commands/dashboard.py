"""`phase8-tune dashboard`: optuna-dashboard on the study of a run, for this computer alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from optuna.storages import BaseStorage

_LOOPBACK = "127.0.0.1"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""As WSGI has it."""


@click.command(context_settings=options.HELP)
@click.argument("run")
@options.runs_dir
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Of this computer alone; 0 takes one that is free.",
)
def dashboard(run: str, runs_dir: Path, port: int) -> None:
    """Show the study of RUN (its name, or its folder) in optuna-dashboard, until Ctrl-C.

    It needs the extra: pip install 'phase8-tune[dashboard]'. Only programs of this computer can reach it. A
    search that goes on is followed; needs no GPU.

    Exit codes: 0 done; 2 wrong input, or the extra is missing.
    """
    from ..records.run_directory import read_run_info

    root = options.run_folder(run, runs_dir)
    info = read_run_info(root)
    application = application_of(storage_of(root))
    with serving(application, port) as server:
        click.echo(
            f"{info.study} of {root}: http://{_LOOPBACK}:{server.server_port}/dashboard (Ctrl-C ends it)"
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def storage_of(root: Path) -> BaseStorage:
    """The run's study, in step with its records: made again where it was lost, or is of an earlier format.

    Raises: UserInputError where it cannot be read.
    """
    from ..machine.lock import LockedError, ProcessLock
    from ..records.database import open_sqlite
    from ..records.journal import read_records
    from ..records.replayed import replayed
    from ..records.run_directory import RunPaths
    from ..study.definition import parse_definition
    from ..values.errors import UserInputError
    from ..values.yaml_reading import read_text_file

    paths = RunPaths(root=root)
    definition = parse_definition(read_text_file(paths.definition, "study"), str(paths.definition))
    try:
        lock = ProcessLock.take(paths.lock)
    except LockedError:  # a search goes on, which keeps the study in step itself
        return open_sqlite(paths.database)
    except OSError as error:
        raise UserInputError(
            f"{paths.lock}: cannot be written: {error.strerror}; copy the run to a folder that can"
        ) from None
    try:
        storage = open_sqlite(paths.database)
        replayed(storage, definition, read_records(paths.journal))
    finally:
        lock.close()
    return storage


def application_of(storage: BaseStorage) -> Application:
    """Raises: UserInputError where optuna-dashboard is not installed."""
    from ..values.errors import UserInputError

    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise UserInputError(
            "expected the extra dashboard, found none of it: pip install 'phase8-tune[dashboard]'"
        ) from None
    shown: Application = wsgi(storage)

    def of_this_computer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """A page of elsewhere may have its own name lead to this computer, but not be called as it is."""
        if environ.get("HTTP_HOST", "").partition(":")[0] not in (_LOOPBACK, "localhost"):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"expected the address that was printed\n"]
        return shown(environ, start_response)

    return of_this_computer


def serving(application: Application, port: int) -> WSGIServer:
    """Raises: UserInputError where the port is taken."""
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    from ..values.errors import UserInputError

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """A line a request is of no use to anybody."""

    try:
        return make_server(_LOOPBACK, port, application, handler_class=Quiet)
    except OSError as error:
        raise UserInputError(
            f"--port: expected one that is free, got {port}: {error.strerror}; name another, or 0 for any"
        ) from None
