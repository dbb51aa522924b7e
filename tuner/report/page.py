"""report.html of a run: the words of its report, for the page."""

from __future__ import annotations

from ..html.facts import PageFacts
from ..html.page import render_html
from ..records.results import Results
from .facts import RunFacts
from .sections import answer, commands, environment, sections_after_the_answer, title


def render_page(results: Results, facts: RunFacts) -> str:
    """The page of a run. A pure function: the same results and facts give the same text."""
    return render_html(
        results,
        PageFacts(
            title=title(facts),
            device=f"{facts.device.name} (device: {facts.device.kind})",
            budget_bytes=facts.budget_bytes,
            answer=answer(results, facts),
            sections=(*sections_after_the_answer(results, facts), environment(results, facts)),
            commands=commands(facts),
        ),
    )
