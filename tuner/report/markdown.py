"""report.md: a page that is read in a minute, all of it computed from the records of one run."""

from __future__ import annotations

from ..html.facts import Section
from ..records.results import Results
from .facts import RunFacts
from .goals import answer_section, goals_section
from .sections import ALL_PREDICTED, commands, environment, models, sections_after_the_models, title
from .tables import markdown_table
from .what_if import budgets_section


def render_report(results: Results, facts: RunFacts) -> str:
    """The whole report of a run. A pure function: the same results and facts give the same text."""
    again = "\n".join(commands(facts))
    sections = [
        f"# {title(facts)}\n",
        "" if facts.plan is None else f"{ALL_PREDICTED}\n",
        "Every configuration is in `report.html`, to be opened in a browser, and in `trials.csv`.\n",
        _section(environment(results, facts)),
        _section(answer_section(results, facts), is_paragraph=True),
        _section(goals_section(results)),
        _section(models(results, facts), is_paragraph=True),
        _section(budgets_section(facts.estimates, results.points, facts.budget_bytes), is_paragraph=True),
        *(_section(section) for section in sections_after_the_models(results, facts)),
        f"## Reproduce\n\n```bash\n{again}\n```\n",
    ]
    return "\n".join(section for section in sections if section)


def _section(section: Section, *, is_paragraph: bool = False) -> str:
    if not section.lines and not section.rows:
        return ""
    parts = [f"{'#' * section.level} {section.title}\n"]
    if section.lines:
        lines = [line if is_paragraph else f"- {line}\n" for line in section.lines]
        parts.append("\n\n".join(lines) + "\n" if is_paragraph else "".join(lines))
    if section.rows:
        parts.append(markdown_table(section.rows[0], section.rows[1:], align=section.align) + "\n")
    return "\n".join(parts)
