"""Two runs compared as one page: their points in the same plots, and what changed beyond the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..goals.goals import Goal
from ..html.facts import GoalWords, PageFacts, PageRun, Section
from ..html.page import render_html
from ..records.compare import compare_runs
from ..records.results import Results
from .comparison_tables import (
    PREDICTED,
    ComparedRun,
    Table,
    cells_table,
    changed_table,
    count_lines,
    environments_table,
    has_predicted,
    one_sided_table,
    unit_of,
)
from .goals import told_answers

NAMES = ("A", "B")


def render_comparison_page(first: ComparedRun, second: ComparedRun, command: str) -> str:
    """The page of two runs: the first is A, the second B. command: what was typed for it."""
    found = compare_runs(first.records, second.records)
    runs = dict(zip(NAMES, (first, second), strict=True))
    results = {name: Results.of(run.records) for name, run in runs.items()}
    notes = (PREDICTED,) if has_predicted(first, second) else ()
    unit = unit_of(found).lower()
    changed = _section("Changed by more than both intervals together", changed_table(found, None))
    cells = _section(f"The best of each cell. Change: of {unit}, B against A", cells_table(found))
    one_sided = _section("Fit in one run and not in the other", one_sided_table(found, None))
    both = f"{first.info.study} on {first.info.device_name}"
    if (other := f"{second.info.study} on {second.info.device_name}") != both:
        both = f"{both}, {other}"
    return render_html(
        [
            PageRun(
                name=name,
                results=results[name],
                device=f"{run.info.device_name} (device: {run.info.device_kind})",
                budget_bytes=run.info.budget_bytes,
            )
            for name, run in runs.items()
        ],
        PageFacts(
            title=f"Two runs compared: {both}",
            lead=Section(
                title="What changed from A to B",
                lines=(f"**A** is `{first.name}`, **B** is `{second.name}`.", *count_lines(found), *notes),
            ),
            goals=_goals(
                [
                    said
                    for name, run in runs.items()
                    for said in told_answers(results[name], run.info.budget_bytes, run.estimates, name)
                ]
            ),
            models=Section(title="The fastest of each model"),
            before=tuple(section for section in (changed, cells, one_sided) if len(section.rows) > 1),
            after=(_section("Environment", environments_table(first, second)),),
            commands=(command,),
        ),
    )


def _section(title: str, table: Table) -> Section:
    headers, rows, align = table
    return Section(title=title, rows=(tuple(headers), *map(tuple, rows)), align=align)


def _goals(words: Sequence[GoalWords]) -> tuple[GoalWords, ...]:
    """The answers of both runs, those to one goal below each other."""
    order = list(Goal)
    found: dict[str, list[GoalWords]] = {}
    for said in sorted(words, key=lambda said: (order.index(Goal(said.goal)), said.run)):
        found.setdefault(said.goal, []).append(said)
    # What the goal means, and what has to be known of it, is said once.
    return tuple(
        said if said is of_goal[0] else replace(said, said=said.said[1:], notes=())
        for of_goal in found.values()
        for said in of_goal
    )
