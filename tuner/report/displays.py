"""Which display a command tells its run with."""

from __future__ import annotations

from typing import TextIO

from .display import Display
from .event_lines import EventLines
from .lines import LineDisplay, QuietDisplay
from .live import LiveDisplay, is_redrawn


def display_for_people(out: TextIO, err: TextIO) -> Display:
    """Drawn anew where standard error is a terminal that can, plain lines elsewhere."""
    return LiveDisplay(out, err) if is_redrawn(err) else LineDisplay(out, err)


def choose_display(out: TextIO, err: TextIO, *, is_quiet: bool = False, as_json: bool = False) -> Display:
    """As a command was asked to tell; out, err: its standard output and error."""
    if as_json:
        return EventLines(out)
    return QuietDisplay(out) if is_quiet else display_for_people(out, err)
