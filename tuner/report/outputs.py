"""The files of a run that are made from its results: recommendations, report, table, page and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..records.frontier import Point
from ..records.results import Results
from ..values.atomic_write import write_atomically
from ..values.errors import UserInputError
from .facts import RunFacts
from .kept_facts import FILE, keep_facts
from .markdown import render_report
from .page import render_page
from .picture import draw_frontier
from .recommendations import write_recommended
from .trials_csv import render_csv


def write_outputs(
    results: Results,
    facts: RunFacts,
    recommended: Sequence[Point] | None = None,
    *,
    is_early: bool = False,
) -> list[Path]:
    """Write recommended/*.yaml (one a model and one a goal), report.json, report.md, trials.csv, and, at the
    end of a run, report.html, frontier.svg and frontier.png; the paths of the recommendations.

    recommended: what they are; None: those of the results. is_early: the run goes on, which drawing would
    hold up for two seconds.
    Raises: UserInputError where the run directory cannot be written.
    """
    points = results.recommended if recommended is None else recommended
    root = facts.run_root
    written = write_recommended(results, points, root / "recommended")
    path = root / FILE
    try:
        keep_facts(facts)
        path = root / "report.md"
        write_atomically(path, render_report(results, facts))
        path = root / "trials.csv"
        write_atomically(path, render_csv(results.records, results.frontier))
        if not is_early:
            path = root / "report.html"
            write_atomically(path, render_page(results, facts))
            path = root / "frontier.svg"
            draw_frontier(results, facts, (path, path.with_suffix(".png")))
    except OSError as error:
        raise UserInputError(
            f"{path}: cannot be written: {error.strerror}; mend that, and run the same command again"
        ) from error
    return written
