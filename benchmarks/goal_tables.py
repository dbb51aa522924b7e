"""The tables of docs/goals.md: what recorded runs answer to every goal.

    python -m phase8_tune.benchmarks.goal_tables

prints them, each below the run that it is of. Needs no GPU; `tests/goals/test_recorded.py` holds the page to
it.
"""

from __future__ import annotations

from pathlib import Path

from ..tuner.records.journal import read_records
from ..tuner.records.results import Results
from ..tuner.records.run_directory import RunPaths
from ..tuner.report.answers import answers_table
from ..tuner.report.recommendations import run_answers
from ..tuner.report.tables import markdown_table

_RESULTS = Path(__file__).resolve().parents[1] / "studies" / "results"
MEASURED = _RESULTS / "2026-11-29-h200-default-study"
PLANNED = _RESULTS / "2026-11-29-cpu-three-models-plan"


def goal_table(root: Path) -> str:
    """The answers of the run in a folder, in Markdown, a row a goal."""
    results = Results.of(read_records(RunPaths(root=root).journal))
    headers, rows, align = answers_table(run_answers(results))
    return markdown_table(headers, rows, align=align)


def main() -> None:
    for root in (MEASURED, PLANNED):
        print(f"{root.name}\n\n{goal_table(root)}\n")


if __name__ == "__main__":
    main()
