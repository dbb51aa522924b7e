"""What a page is told: the runs that it shows, and its words, which the report has put together."""

from __future__ import annotations

from dataclasses import dataclass

from ..records.results import Results


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
class GoalWords:
    """The answer to a goal: a configuration of a run, named by its digest, with its figures.

    run: the name of the run, empty where the page has one. said: what is said of it, each with its name: what
    the goal means, why, the next best. notes: what has to be known of that.
    """

    goal: str
    digest: str
    configuration: str
    figures: str
    said: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    run: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageRun:
    """A run that a page shows. name: empty of one alone. device: as comments of settings name it, for example
    `NVIDIA H200 (device: cuda)`."""

    results: Results
    device: str
    budget_bytes: int
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFacts:
    """The words of a page.

    lead: what a reader came for, on the first screen, with the answers to `goals` below it. models: what is
    told of every model, below the plot; where scripts run its table is that of the budget that is tried.
    before, after: sections before and after the other plots and the table. commands: what was typed for this,
    a line each.
    """

    title: str
    lead: Section
    goals: tuple[GoalWords, ...]
    models: Section
    before: tuple[Section, ...]
    after: tuple[Section, ...]
    commands: tuple[str, ...]
