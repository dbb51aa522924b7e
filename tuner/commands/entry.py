"""How every command begins and ends: its streams, its signals, and what went wrong as one line."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence

import click

from ..machine.installation import find_unreadable
from ..measuring.failures import exception_chain
from ..values.errors import OutputLostError, Phase8TuneError, UserInputError
from ..values.interrupt import EndRequest, end_requests
from .streams import guarded_streams

_ARGUMENTS = "phase8_tune.arguments"
_SAFE_PATH = "PYTHONSAFEPATH"


def command_line(context: click.Context) -> str:
    """The command as it was typed, quoted for a shell."""
    return shlex.join([context.find_root().info_name or "", *context.meta[_ARGUMENTS]])


def enter(program: str, command: click.Command, arguments: Sequence[str] | None = None) -> None:
    """Run a command. A user's error is one line on standard error; a bug keeps its traceback.

    arguments: None for those of the process.
    Raises: SystemExit with the command's exit code where that is not 0.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with _children_import_alike(), guarded_streams(), end_requests() as request:
        try:
            code, message = _run(program, command, given, request)
            lost = _flush()
            if lost is not None and not message:
                code, message = lost.exit_code, str(lost)
            if code and request.number is not None:
                code = request.exit_code()  # whatever failed: a terminal that was closed takes streams along
            if message:
                click.echo(f"{program}: {message}", err=True)
        except KeyboardInterrupt:  # one more, while the last words are said
            code = request.exit_code()
    if code:
        sys.exit(code)


def _run(
    program: str, command: click.Command, arguments: list[str], request: EndRequest
) -> tuple[int, str | None]:
    """(exit code, what to say) of a command."""
    try:
        with command.make_context(program, list(arguments)) as context:
            context.meta[_ARGUMENTS] = arguments
            command.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code, None
    except click.ClickException as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        return UserInputError.exit_code, f"{message}; see {program} --help"
    except (KeyboardInterrupt, click.Abort):
        return request.exit_code(), "interrupted; what was done until then is kept"
    except BrokenPipeError:  # `phase8-tune … | head`: nobody reads on
        return 0, None
    except Phase8TuneError as error:
        # What fails after a second request to end is what that tore apart.
        interrupted = any(isinstance(part, KeyboardInterrupt) for part in exception_chain(error))
        if interrupted and not error.is_interrupt:
            return request.exit_code(), "interrupted; what was done until then is kept"
        return request.exit_code() if error.is_interrupt else error.exit_code, str(error)
    except (ImportError, PermissionError) as error:
        lack = find_unreadable()
        if lack is None:
            raise
        return UserInputError.exit_code, f"{type(error).__name__}: {error}; {lack}"
    return 0, None


@contextlib.contextmanager
def _children_import_alike() -> Iterator[None]:
    """Keep the present folder out of what processes import that are started here, where this one does so.

    Else a file random.py of the user's stands in for Python's in every worker.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        here = ""
    if {"", here}.isdisjoint(sys.path) and _SAFE_PATH not in os.environ:
        os.environ[_SAFE_PATH] = "1"
        try:
            yield
        finally:
            os.environ.pop(_SAFE_PATH, None)
    else:
        yield


def _flush() -> OutputLostError | None:
    """Standard output to its end: a full disk may show only now."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return None
    except OutputLostError as error:
        return error
    return None
