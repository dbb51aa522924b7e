"""What is recommended of a run, one file a model and one a goal, each with why it was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..goals.filters import Filters
from ..goals.goals import Answer, find_answers
from ..goals.loss import Horizon, by_model
from ..goals.wording import why, why_fastest
from ..records.frontier import Point
from ..records.recommend import is_trainable, recommendation_name
from ..records.results import Results
from ..training.recommended import write_goals, write_recommendations


def run_answers(results: Results) -> list[Answer]:
    """The answers of a run to every goal where nothing else is asked; none where nothing that trains fits."""
    return find_answers([point for point in results.points if is_trainable(point)], Horizon())


def write_recommended(results: Results, recommended: Sequence[Point], folder: Path) -> list[Path]:
    """Write the settings files of models and goals; the paths of the models'.

    recommended: the results' own, and what is expected of models of which nothing is measured yet.
    Raises: UserInputError where the folder cannot be written.
    """
    of_models = by_model(point for point in results.points if is_trainable(point))

    def reasons(point: Point) -> list[str]:
        rivals = of_models.get(recommendation_name(point.candidate))
        return why_fastest(point, rivals) if rivals else []  # none: expected, as nothing is measured yet

    written = write_recommendations(recommended, folder, reasons)
    filters, horizon = Filters(), Horizon()
    answers = run_answers(results)
    write_goals({a.goal: (a.point, why(a, filters, horizon)) for a in answers}, folder)
    return written
