"""The page: one file that needs nothing else, whose table can be read where no script runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from plotly.offline import get_plotlyjs

from ..records.hypervolume import GrowingHypervolume
from ..records.results import Results
from ..records.wording import namer, rate_unit
from ..values.sizes import MIB, format_budget
from .escaping import escape, inline, script_json
from .facts import GoalWords, PageFacts, PageRun, Section
from .rows import began_at, cell_axes, minutes_until, pack, to_rows
from .selection import LARGEST, select_records
from .table import Headings, number_cells, render_table

# Nothing is loaded from anywhere: a browser refuses it, whatever a text on the page has come to be.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
_SCRIPTS = ("words.js", "charts.js", "table.js", "configuration.js", "page.js")
_STEPS = 400


def render_html(runs: Sequence[PageRun], facts: PageFacts) -> str:
    """The whole page of a run, or of several side by side. A pure function: the same give the same text.

    Of more records than a page can hold, which `select_records` says, the page shows a part and tells so.
    """
    largest = LARGEST // max(len(runs), 1)
    chosen = [(run, select_records(run.results, largest)) for run in runs]
    name = namer(record.to_candidate() for _, records in chosen for record in records)
    rows = [row for run, records in chosen for row in to_rows(records, run.results, name, run.name)]
    settled = [record for run in runs for record in run.results.settled]
    candidates = [point.candidate for run in runs for point in run.results.points]
    cells = dict.fromkeys(axis.heading for c in candidates for axis in cell_axes(c))
    unit = rate_unit(candidates) if candidates else "tokens/s"
    headings = Headings(cell=" / ".join(cells) or "Cell", unit=unit)
    columns = headings.columns(rows)
    data = {
        "runs": [
            {
                "name": run.name,
                "budget_mb": round(run.budget_bytes / MIB, 1),
                "budget": format_budget(run.budget_bytes),
                "device": run.device,
                "progress": _progress(run.results, run.budget_bytes),
            }
            for run in runs
        ],
        "unit": unit,
        "cells": {
            c.spec.title: axes[0].heading.lower() if len(axes := cell_axes(c)) == 1 else ""
            for c in candidates
        },
        **pack(rows),
    }
    values = {
        "title": escape(facts.title),
        "policy": escape(_POLICY),
        "style": _own("page.css"),
        "numbers": number_cells(columns),
        "lead": _section(facts.lead, "p"),
        "choices": "".join(map(_choice, dict.fromkeys(words.goal for words in facts.goals))),
        "goals": "\n".join(map(_goal, facts.goals)),
        "models": _section(facts.models, "p"),
        "cell": escape(headings.cell),
        "cell_words": escape(headings.cell.lower()),
        "item": escape(headings.item),
        "shown": escape(_said(len(rows), len(settled), len(runs))),
        "table": render_table(columns),
        "before": _sections(facts.before),
        "after": _sections(facts.after),
        "commands": escape("\n".join(facts.commands)),
        "data": script_json(data),
        "plotly": get_plotlyjs() if rows else "",
        "script": "\n".join(map(_own, _SCRIPTS)),
    }
    parts = _own("page.html").split("@@")  # text, name, text, name …
    return "".join(values[part] if index % 2 else part for index, part in enumerate(parts))


def _progress(results: Results, budget_bytes: int) -> list[tuple[float, float]]:
    """Minutes since the first record began, and the share of the final hypervolume that was there by then.

    Of more steps than a plot shows, every n-th and the last.
    """
    began = began_at(results)
    measured = [point for point in results.points if point.record.attempt]
    timed = [
        (found, point) for point in measured if (found := minutes_until(point.record, began)) is not None
    ]
    growing = GrowingHypervolume(budget_bytes)
    steps = []
    for minutes, point in sorted(timed, key=lambda pair: pair[0]):
        growing.add(point)
        steps.append((minutes, growing.volume))
    last_first = steps[:: -(len(steps) // _STEPS + 1)]
    return [
        (minutes, round(volume / growing.volume, 4)) for minutes, volume in reversed(last_first) if volume
    ]


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _said(shown: int, settled: int, runs: int) -> str:
    if shown == settled:
        return f"All {settled:,} configurations of {'the run' if runs == 1 else 'these runs'}."
    return (
        f"{shown:,} of {settled:,} configurations: the frontier, what was measured and what comes nearest to "
        "the best are all here, of the rest a sample; trials.csv has every one."
    )


def _sections(sections: Sequence[Section]) -> str:
    return "\n".join(f"<section>{_section(section, 'li')}</section>" for section in sections)


def _section(section: Section, tag: str) -> str:
    lines = "".join(f"<{tag}>{inline(line)}</{tag}>\n" for line in section.lines)
    if lines and tag == "li":
        lines = f"<ul>{lines}</ul>"
    rows = ""
    if section.rows:
        head, *body = section.rows
        sides = [" class=n" if side == "r" else "" for side in section.align.ljust(len(head), "l")]
        rows = (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(section.title)}"><table><tr>'
            + "".join(f"<th{side}>{inline(cell)}" for cell, side in zip(head, sides, strict=True))
            + "".join(
                "<tr>" + "".join(f"<td{side}>{inline(cell)}" for cell, side in zip(row, sides, strict=True))
                for row in body
            )
            + "</table></div>"
        )
    title = f"<h{section.level}>{inline(section.title)}</h{section.level}>\n" if section.title else ""
    return f"{title}{lines}{rows}" if tag == "p" else f"{title}{rows}{lines}"


def _choice(goal: str) -> str:
    name = escape(goal)
    return f'<label><input type="radio" name="goal" value="{name}"><span>{name}</span></label>'


def _goal(words: GoalWords) -> str:
    """An answer in words; all of them stand below each other where no script shows the one that is chosen."""
    of_run = f" <small>{escape(words.run)}</small>" if words.run else ""
    said = "".join(f"<p><b>{escape(name)}</b> {escape(text)}</p>" for name, text in words.said)
    notes = "".join(f'<p class="note">{escape(text)}</p>' for text in words.notes)
    return (
        f'<article data-goal="{escape(words.goal)}" data-run="{escape(words.run)}" '
        f'data-digest="{escape(words.digest)}">'
        f'<p class="what"><strong>{escape(words.configuration)}</strong>{of_run}<br>{escape(words.figures)} '
        f'<button type="button" class="scripted">its settings</button></p>{said}{notes}</article>'
    )
