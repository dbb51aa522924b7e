"""report.html of a run: the words of its report, for the page."""

from __future__ import annotations

from dataclasses import replace

from ..html.facts import PageFacts
from ..html.page import render_html
from ..records.results import Results
from .facts import RunFacts
from .sections import ALL_PREDICTED, answer, commands, environment, sections_after_the_answer, title


def render_page(results: Results, facts: RunFacts) -> str:
    """The page of a run. A pure function: the same results and facts give the same text."""
    first = answer(results, facts)
    if facts.plan is not None:
        first = replace(first, lines=(f"**{ALL_PREDICTED}**", *first.lines))
    return render_html(
        results,
        PageFacts(
            title=title(facts),
            device=f"{facts.device.name} (device: {facts.device.kind})",
            budget_bytes=facts.budget_bytes,
            answer=first,
            sections=(*sections_after_the_answer(results, facts), environment(results, facts)),
            commands=commands(facts),
        ),
    )
