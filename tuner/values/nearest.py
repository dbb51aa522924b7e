"""A name that is none of those known, and the one that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALIKE = 0.6
"""From this ratio of `difflib` on one name may stand for another (1: the same); mistypings are over 0.8."""


def nearest(name: str, known: Iterable[str], *, alike: float = ALIKE) -> str | None:
    """The known name that is most like a name, in whatever case; None where none is like it."""
    return next(iter(nearest_of(name, known, count=1, alike=alike)), None)


def nearest_of(name: str, known: Iterable[str], *, count: int = 3, alike: float = ALIKE) -> list[str]:
    """The known names that are most like a name, in whatever case, the likest first; at most `count`."""
    by_form = {one.casefold(): one for one in known}
    return [by_form[form] for form in difflib.get_close_matches(name.casefold(), by_form, count, alike)]


def one_of(known: Iterable[str], name: str) -> str:
    """The end of a message: `expected one of nano, small, got 'nanoo'; did you mean nano?`."""
    names = list(known)
    meant = nearest(name, names)
    hint = "" if meant is None else f"; did you mean {meant}?"
    return f"expected one of {', '.join(names)}, got {name!r}{hint}"
