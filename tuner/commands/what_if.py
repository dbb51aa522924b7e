"""`phase8-tune recommend --what-if`: what other memory or a longer sequence would change in an answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..goals.filters import Filters
from ..goals.goals import Answer, find_answer
from ..goals.loss import Horizon
from ..goals.what_if import BUDGETS_BYTES, GIB, budgets_around
from ..predict.prediction import Predictor
from ..predict.rate.calibration import known_profile
from ..predict.store import PredictionStore
from ..records.frontier import Point, find_frontier
from ..records.run_directory import RunInfo, RunPaths
from ..report.answers import point_to_dict
from ..report.displays import display_for_people
from ..report.tables import markdown_table
from ..report.what_if import Changes, budgets_table, changes_of
from ..search.budgets import predict_under
from ..study.definition import parse_definition
from ..values.errors import NothingFitsError
from ..values.terminal import fill
from ..values.yaml_reading import read_text_file


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What is shown of an answer's changes. frontiers: predicted, by budget; none where nothing is."""

    changes: Changes
    frontiers: Mapping[int, Sequence[Point]]

    def render(self, width: int | None) -> str:
        """As text; width: columns of the terminal, None for no limit."""
        lines = [f"{name[0].upper()}{name[1:]}: {text}." for name, text in self.changes.said()]
        if not self.frontiers:
            return fill("\n".join(lines), width) + "\n"
        mode = self.changes.answer.point.candidate.mode
        lines.append(f"\nPredicted under other budgets, {mode} step, the fastest of each model:")
        headers, rows, align = budgets_table(self.frontiers)
        return fill("\n".join(lines), width) + f"\n\n{markdown_table(headers, rows, align=align)}\n"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return self.changes.to_dict() | {
            "predicted_frontiers": {
                str(budget_bytes): [point_to_dict(point) for point in points]
                for budget_bytes, points in self.frontiers.items()
            },
        }


def find_changes(
    points: Sequence[Point], answer: Answer, filters: Filters, horizon: Horizon, root: Path, info: RunInfo
) -> Shown:
    """What would change in an answer of a run; predicted where the figures of its card are known.

    Raises: UserInputError where the run's study cannot be read.
    """
    budget_bytes = info.budget_bytes if filters.budget_bytes is None else filters.budget_bytes
    device = answer.point.record.measurement.device
    # Of a name that several cards have its memory tells which.
    capacity_bytes = None if device is None else device.total_bytes
    profile = None if info.device_kind == "cpu" else known_profile(info.device_name, capacity_bytes)
    more, frontiers, not_predicted = None, {}, ""
    if profile is None:
        not_predicted = f"no figures of {info.device_name} are known"
    else:
        path = RunPaths(root=root).definition
        definition = parse_definition(read_text_file(path, "study"), str(path))
        near = (budget_bytes, budget_bytes + GIB)
        with PredictionStore() as store, display_for_people(sys.stdout, sys.stderr) as display:
            predictor = Predictor(profile=profile, store=store)
            budgets = budgets_around(budget_bytes)
            found = predict_under(definition, predictor, budgets, display.show_predicted)
        before, after = (_answer(found[size], answer, filters, horizon) for size in near)
        more = before, after
        frontiers = {size: find_frontier(found[size]) for size in BUDGETS_BYTES}
    changes = changes_of(points, answer, horizon, budget_bytes, more=more, not_predicted=not_predicted)
    return Shown(changes=changes, frontiers=frontiers)


def _answer(points: Sequence[Point], answer: Answer, filters: Filters, horizon: Horizon) -> Answer | None:
    try:
        passing = filters.without_measured().select(points)
    except NothingFitsError:
        return None
    return find_answer(passing, answer.goal, horizon)
