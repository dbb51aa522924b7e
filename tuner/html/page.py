"""The page: one file that needs nothing else, whose table can be read where no script runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from plotly.offline import get_plotlyjs

from ..records.hypervolume import GrowingHypervolume
from ..records.results import Results
from ..records.wording import rate_unit
from ..values.sizes import MIB, format_budget
from .escaping import escape, inline, script_json
from .facts import PageFacts, Section
from .rows import Row, began_at, minutes_until, pack, to_rows
from .selection import select_records

# Nothing is loaded from anywhere: a browser refuses it, whatever a text on the page has come to be.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
_STEPS = 400
_HEADINGS = (
    ("model", "Model"),
    ("parameters", "Parameters"),
    ("sequence", "Sequence"),
    ("batch", "Batch"),
    ("version", "Kernels"),
    ("precision", "Precision"),
    ("checkpointing", "Checkpointing"),
    ("mode", "Mode"),
    ("rate", "Tokens/s"),
    ("low", "Interval"),
    ("peak_mb", "Peak (MB)"),
    ("energy_mj", "mJ/token"),
    ("outcome", "Outcome"),
)
_NUMBERS = frozenset({"parameters", "sequence", "batch", "rate", "low", "peak_mb", "energy_mj"})


def render_html(results: Results, facts: PageFacts) -> str:
    """The whole page. A pure function: the same results and facts give the same text.

    Of more records than a page can hold, which `select_records` says, the page shows a part and tells so.
    """
    rows = to_rows(select_records(results), results)
    data = {
        "budget_mb": round(facts.budget_bytes / MIB, 1),
        "budget": format_budget(facts.budget_bytes),
        "device": facts.device,
        "unit": rate_unit(point.candidate for point in results.points) if results.points else "tokens/s",
        "progress": _progress(results, facts.budget_bytes),
        **pack(rows),
    }
    values = {
        "title": escape(facts.title),
        "policy": escape(_POLICY),
        "style": _own("page.css"),
        "answer": _section(facts.answer, "p"),
        "shown": escape(_said(len(rows), len(results.settled))),
        "table": _table(rows),
        "sections": "\n".join(f"<section>{_section(section, 'li')}</section>" for section in facts.sections),
        "commands": escape("\n".join(facts.commands)),
        "data": script_json(data),
        "plotly": get_plotlyjs() if rows else "",
        "charts": _own("charts.js"),
        "script": _own("page.js"),
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


def _said(shown: int, settled: int) -> str:
    if shown == settled:
        return f"All {settled:,} configurations of the run."
    return (
        f"{shown:,} of {settled:,} configurations: the frontier, what was measured and what comes nearest to "
        "the best are all here, of the rest a sample; trials.csv has every one."
    )


def _section(section: Section, tag: str) -> str:
    lines = "".join(f"<{tag}>{inline(line)}</{tag}>\n" for line in section.lines)
    if lines and tag == "li":
        lines = f"<ul>{lines}</ul>"
    rows = ""
    if section.rows:
        head, *body = section.rows
        rows = (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(section.title)}"><table><tr>'
            + "".join(f"<th>{inline(cell)}" for cell in head)
            + "".join("<tr>" + "".join(f"<td>{inline(cell)}" for cell in row) for row in body)
            + "</table></div>"
        )
    return f"<h2>{inline(section.title)}</h2>\n{lines if tag == 'p' else rows}{rows if tag == 'p' else lines}"


def _table(rows: Sequence[Row]) -> str:
    heads = "".join(
        f'<th scope="col" data-key="{key}"{" class=n" if key in _NUMBERS else ""}>{name}'
        for key, name in _HEADINGS
    )
    body = "".join(_table_row(index, row) for index, row in enumerate(rows))
    return f"<thead><tr>{heads}</thead>\n<tbody>{body}</tbody>"


def _table_row(index: int, row: Row) -> str:
    """Cells end where the next begins, as HTML allows: a third of the bytes of a huge table."""
    mark = "★ " if row.recommended else "◆ " if row.frontier else ""
    wave = "~" if row.predicted else ""
    interval = "" if row.low is None or row.high is None else f"{_number(row.low)}–{_number(row.high)}"
    outcome = ("predicted to fit" if row.predicted else "measured") if row.fits else row.outcome
    note = "" if row.fits and row.predicted else row.note  # which would say the row once more
    cells = (
        mark + escape(row.model),
        _number(row.parameters),
        str(row.sequence),
        str(row.batch),
        escape(", ".join(filter(None, (row.version, row.others)))),
        escape(row.precision),
        "yes" if row.checkpointing else "no",
        escape(row.mode),
        wave + _number(row.rate) if row.rate is not None else "",
        interval,
        _number(row.peak_mb),
        _number(row.energy_mj),
        escape(outcome.replace("_", " ") + (f": {note}" if note else "")),
    )
    return f"<tr data-i={index}>" + "".join(f"<td>{cell}" for cell in cells) + "\n"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 3
    return f"{value:,.{digits}f}"
