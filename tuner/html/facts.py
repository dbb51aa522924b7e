"""What a page is told besides the results: its words, which the report has put together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of a report in words: a table whose first row is its headings, and lines.

    level: of its title, 2 or below that 3. align: a letter a column, r for numbers. Texts may mark
    `**strong**` and `` `code` `` as Markdown does; whatever else they hold is shown as it is.
    """

    title: str
    lines: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    align: str = ""
    level: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFacts:
    """The words of a page. device: as comments of settings name it, for example `NVIDIA H200 (device: cuda)`.

    answer: what a reader came for, on the first screen. sections: what follows the plots. commands: what was
    typed for this run, a line each.
    """

    title: str
    device: str
    budget_bytes: int
    answer: Section
    sections: tuple[Section, ...]
    commands: tuple[str, ...]
