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
from ..goals.what_if import BUDGETS_BYTES, GIB, beside_own, budgets_around
from ..predict.prediction import Predictor
from ..predict.rate.calibration import known_profile
from ..predict.rate.profiles import GpuProfile
from ..predict.store import PredictionStore
from ..records.frontier import Point, find_frontier
from ..records.run_directory import RunInfo, RunPaths
from ..report.answers import point_to_dict
from ..report.displays import display_for_people
from ..report.tables import markdown_table
from ..report.what_if import Changes, budgets_table, changes_of, other_budgets
from ..search.budgets import predict_under
from ..study.definition import parse_definition
from ..values.errors import NothingFitsError, UserInputError
from ..values.measurement import DeviceInfo
from ..values.terminal import fill
from ..values.yaml_reading import read_text_file


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What is shown of an answer's changes. frontiers: predicted, by budget; none where nothing is. own: the
    points of the run among which it is the answer."""

    changes: Changes
    frontiers: Mapping[int, Sequence[Point]]
    own: Sequence[Point]

    def render(self, width: int | None) -> str:
        """As text; width: columns of the terminal, None for no limit."""
        lines = [f"{name[0].upper()}{name[1:]}: {text}." for name, text in self.changes.said()]
        if not self.frontiers:
            return fill("\n".join(lines), width) + "\n"
        mode = self.changes.answer.point.candidate.mode
        lines.append(f"\nPredicted under other budgets, {mode} step, the fastest of each model:")
        budget_bytes = self.changes.budget_bytes
        shown = other_budgets(self.frontiers, self.own, budget_bytes)
        headers, rows, align = budgets_table(shown, budget_bytes)
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
    profile = profile_of(info, answer.point.record.measurement.device)
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
            predicted = predict_under(definition, predictor, budgets, display.show_predicted)
        passing = {size: _passing(found, filters) for size, found in predicted.items()}
        found = beside_own(passing, points, budget_bytes)
        before, after = (find_answer(found[size], answer.goal, horizon) for size in near)
        more = before, after
        frontiers = {size: find_frontier(passing[size]) for size in BUDGETS_BYTES}
    changes = changes_of(points, answer, horizon, budget_bytes, more=more, not_predicted=not_predicted)
    return Shown(changes=changes, frontiers=frontiers, own=points)


def profile_of(info: RunInfo, device: DeviceInfo | None) -> GpuProfile | None:
    """The figures of a run's card; None where they are not known. device: as a record of the run has it."""
    if info.device_kind == "cpu":
        return None
    # Of a name that several cards have its memory tells which.
    return known_profile(info.device_name, None if device is None else device.total_bytes)


def _passing(points: Sequence[Point], filters: Filters) -> list[Point]:
    try:
        return filters.without_measured().select(points)
    except (NothingFitsError, UserInputError):  # none of it, or none of the model that was asked for
        return []
