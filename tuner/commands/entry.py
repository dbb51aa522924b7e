"""How every command begins and ends: its streams, its signals, and what went wrong as one line."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum

import click

from ..machine.installation import find_unreadable
from ..measuring.failures import exception_chain
from ..values.errors import OutputLostError, Phase8TuneError, UserInputError
from ..values.interrupt import EndRequest, end_requests
from .streams import GuardedStream, OnLoss, guarded_streams

_ARGUMENTS = "phase8_tune.arguments"
_SAFE_PATH = "PYTHONSAFEPATH"
_INTERRUPTED = "interrupted; what was done until then is kept"


class Unheard(StrEnum):
    """What a command does once its standard output is lost: full, or closed by its reader."""

    GOES_ON = "goes on"  # to its files and its exit code
    SAYS_SO = "says so"  # on standard error, and goes on: for hours, perhaps
    ENDS = "ends"  # what it prints is all that it does


def command_line(context: click.Context) -> str:
    """The command as it was typed, quoted for a shell."""
    return shlex.join([context.find_root().info_name or "", *context.meta[_ARGUMENTS]])


def enter(
    program: str,
    command: click.Command,
    arguments: Sequence[str] | None = None,
    unheard: Unheard = Unheard.GOES_ON,
) -> None:
    """Run a command. A user's error is one line on standard error; a bug keeps its traceback.

    arguments: None for those of the process.
    Raises: SystemExit with the command's exit code where that is not 0.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    on_loss = _on_loss(program, unheard)
    with children_import_alike(), guarded_streams(on_loss) as output, end_requests() as request:
        try:
            code, message = _run(program, command, given, request)
            lost = _loss(output, unheard)
            if isinstance(lost, OutputLostError) and not message:
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
        return request.exit_code(), _INTERRUPTED
    except BrokenPipeError:  # `phase8-generate … | head`: nobody reads on
        return 0, None
    except Phase8TuneError as error:
        return _judge(error, request)
    except (ImportError, PermissionError) as error:
        lack = find_unreadable()
        if lack is None:
            raise
        return UserInputError.exit_code, f"{type(error).__name__}: {error}; {lack}"
    return 0, None


def _judge(error: Phase8TuneError, request: EndRequest) -> tuple[int, str]:
    """(exit code, what to say) of a command that an error ended."""
    if error.is_interrupt:
        return request.exit_code(), str(error)
    is_torn = any(isinstance(part, KeyboardInterrupt) for part in exception_chain(error))
    if is_torn and request.is_repeated:  # what a second request to end tore apart is no failure
        return request.exit_code(), _INTERRUPTED
    if is_torn or request.number is not None:
        return request.exit_code(), f"interrupted; {error}"
    return error.exit_code, str(error)


@contextlib.contextmanager
def children_import_alike() -> Iterator[None]:
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


def _on_loss(program: str, unheard: Unheard) -> OnLoss:
    """What becomes of the command when its standard output is lost."""
    told: list[OSError] = []

    def act(loss: OSError) -> None:
        if unheard is Unheard.ENDS:
            raise _lost(loss, unheard)
        if unheard is Unheard.SAYS_SO and not told:
            told.append(loss)
            why = "nobody reads it any more" if isinstance(loss, BrokenPipeError) else loss.strerror
            click.echo(f"{program}: standard output: {why}; goes on to its end without it", err=True)

    return act


def _lost(loss: OSError, unheard: Unheard) -> BrokenPipeError | OutputLostError:
    if isinstance(loss, BrokenPipeError):
        return loss
    way_out = "make room or send it elsewhere, and run it again"
    return OutputLostError(
        f"standard output: expected room for what this command prints, got: {loss.strerror}; "
        + ("all else is done" if unheard is Unheard.SAYS_SO else way_out)
    )


def _loss(output: GuardedStream, unheard: Unheard) -> BrokenPipeError | OutputLostError | None:
    """What became of standard output to its end: a full disk may show only now."""
    with contextlib.suppress(BrokenPipeError, OutputLostError):
        output.flush()
    return None if output.loss is None else _lost(output.loss, unheard)
