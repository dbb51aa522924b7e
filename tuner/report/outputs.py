"""The files of a run that are made from its results: recommendations, report, table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..records.frontier import Point
from ..records.results import Results
from ..training.recommended import write_recommendations
from ..values.atomic_write import write_atomically
from ..values.errors import UserInputError
from .facts import RunFacts
from .markdown import render_report
from .trials_csv import render_csv


def write_outputs(
    results: Results, facts: RunFacts, recommended: Sequence[Point] | None = None
) -> list[Path]:
    """Write recommended/*.yaml, report.md and trials.csv of a run; the paths of the recommendations.

    recommended: what they are; None: those of the results.
    Raises: UserInputError where the run directory cannot be written.
    """
    points = results.recommended if recommended is None else recommended
    written = write_recommendations(points, facts.run_root / "recommended")
    for name, text in (
        ("report.md", render_report(results, facts)),
        ("trials.csv", render_csv(results.records, results.frontier)),
    ):
        path = facts.run_root / name
        try:
            write_atomically(path, text)
        except OSError as error:
            raise UserInputError(
                f"{path}: cannot be written: {error.strerror}; mend that, and run the same command again"
            ) from error
    return written
