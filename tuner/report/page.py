"""report.html of a run: the words of its report, for the page."""

from __future__ import annotations

from ..html.facts import PageFacts, PageRun, Section
from ..html.page import render_html
from ..records.results import Results
from ..values.sizes import format_budget
from .facts import RunFacts
from .goals import goals_section, told_answers
from .sections import ALL_PREDICTED, commands, environment, models, sections_after_the_models, title
from .what_if import budgets_section


def render_page(results: Results, facts: RunFacts) -> str:
    """The page of a run. A pure function: the same results and facts give the same text."""
    run = PageRun(
        results=results,
        device=f"{facts.device.name} (device: {facts.device.kind})",
        budget_bytes=facts.budget_bytes,
    )
    goals = told_answers(results, facts.budget_bytes, facts.estimates)
    which = "was measured" if facts.plan is None else "is in the study"
    lead = [] if facts.plan is None else [f"**{ALL_PREDICTED}**"]
    budgets = budgets_section(facts.estimates, results.points, facts.budget_bytes)
    lead += [] if goals else [f"No training configuration that {which} fits the budget."]
    return render_html(
        [run],
        PageFacts(
            title=title(facts),
            lead=Section(title=f"The answer for {format_budget(facts.budget_bytes)}", lines=tuple(lead)),
            goals=goals,
            models=models(results, facts),
            before=(budgets,) if budgets.rows else (),
            after=(
                goals_section(results),
                *sections_after_the_models(results, facts),
                environment(results, facts),
            ),
            commands=commands(facts),
        ),
    )
