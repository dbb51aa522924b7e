"""What a command that is called in the tests' own process ends with."""

from __future__ import annotations

from collections.abc import Callable


def exit_code(call: Callable[[], object]) -> int:
    """The exit code that a call of a command ends with; 0 where it returns."""
    try:
        call()
    except SystemExit as end:
        return int(end.code or 0)
    return 0
