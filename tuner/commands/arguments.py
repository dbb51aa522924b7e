"""Arguments of calls from Python: checked as those of a command are, and as values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..values.errors import UserInputError
from ..values.nearest import one_of
from ..values.sizes import parse_duration, parse_size


def names_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name, or several."""
    return (names,) if isinstance(names, str) else tuple(names)


def size_of(size: str | int, what: str, *, least_bytes: int = 1) -> int:
    """Bytes. Raises: UserInputError."""
    return parse_size(f"{size}B" if isinstance(size, int) else size, what=what, least_bytes=least_bytes)


def seconds_of(duration: str | float, what: str) -> float:
    """Raises: UserInputError."""
    return parse_duration(duration if isinstance(duration, str) else f"{duration:f}", what=what)


def check_choice(what: str, choice: str, known: Iterable[str]) -> None:
    """Raises: UserInputError."""
    known = list(known)
    if choice not in known:
        raise UserInputError(f"{what}: {one_of(known, choice)}")


def check_positive(**given: float | None) -> None:
    """Raises: UserInputError."""
    for name, value in given.items():
        if value is not None and not value > 0:
            raise UserInputError(f"{name}: expected a number above 0, got {value}")
