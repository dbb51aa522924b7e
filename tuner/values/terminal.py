"""How wide the terminal is, and texts that keep to it."""

from __future__ import annotations

import os
import shutil
import textwrap
from typing import TextIO

_LEAST_COLUMNS = 20


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal that a stream writes to: COLUMNS, or what it says. None: it is no terminal."""
    if not stream.isatty():
        return None
    try:
        told = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        told = 0
    columns = int(os.environ.get("COLUMNS", "0")) if os.environ.get("COLUMNS", "").isdecimal() else 0
    return max(columns or told or shutil.get_terminal_size().columns, _LEAST_COLUMNS)


def fill(text: str, width: int | None) -> str:
    """A text whose lines are broken between words where they are too wide, and then go on indented.

    A word that is wider stays whole, so that a path can be copied. width: None leaves the text as it is.
    """
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=f"{indent}  ",
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines)
