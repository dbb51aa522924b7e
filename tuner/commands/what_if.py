"""`phase8-tune recommend --what-if`: what other memory or a longer sequence would change in an answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..goals.filters import Filters
from ..goals.goals import Answer, find_answer
from ..goals.loss import Horizon, by_model
from ..goals.what_if import BUDGETS_BYTES, GIB, Doubled, double_context, with_budget
from ..goals.wording import compare, describe_point
from ..predict.prediction import Predictor
from ..predict.rate.calibration import known_profile
from ..predict.store import PredictionStore
from ..records.frontier import Point, find_frontier
from ..records.run_directory import RunInfo, RunPaths
from ..report.answers import point_to_dict
from ..report.displays import display_for_people
from ..report.tables import markdown_table
from ..search.budgets import predict_under
from ..study.definition import parse_definition
from ..values.errors import NothingFitsError
from ..values.sizes import format_budget
from ..values.terminal import fill
from ..values.yaml_reading import read_text_file


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What would be otherwise with other memory, or twice the sequence.

    less: the answer with 1 GB less, of the run's own points. more: predicted answers with the run's budget
    and with 1 GB more, None where nothing is predicted. frontiers: predicted, by budget. not_predicted: why.
    """

    answer: Answer
    budget_bytes: int
    less: Answer | None
    doubled: Doubled | None
    more: tuple[Answer | None, Answer | None] | None
    frontiers: dict[int, list[Point]]
    not_predicted: str

    def render(self, width: int | None) -> str:
        """As text; width: columns of the terminal, None for no limit."""
        point = self.answer.point
        less = f"With {format_budget(max(self.budget_bytes - GIB, 1))}, 1 GB less: "
        lines = [less + ("nothing that fits." if self.less is None else _change(point, self.less.point))]
        lines.append(self._more())
        if self.doubled is None:
            lines.append("Twice the sequence: no configuration of this model in this run fits it.")
        else:
            settings = ", ".join(f"{name} {then} for {before}" for name, before, then in self.doubled.changed)
            lines.append(f"Twice the sequence takes {settings}: {compare(point, self.doubled.point)}.")
        if not self.frontiers:
            return fill("\n".join(lines), width) + "\n"
        lines.append(
            f"\nPredicted under other budgets, {point.candidate.mode} step, the fastest of each model:"
        )
        return fill("\n".join(lines), width) + f"\n\n{self._table()}\n"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        before, after = self.more or (None, None)
        return {
            "goal": self.answer.goal,
            "less_1gb": None if self.less is None else point_to_dict(self.less.point),
            "predicted": None if before is None else point_to_dict(before.point),
            "predicted_more_1gb": None if after is None else point_to_dict(after.point),
            "double_context": None if self.doubled is None else point_to_dict(self.doubled.point),
            "not_predicted": self.not_predicted or None,
            "predicted_frontiers": {
                str(budget_bytes): [point_to_dict(point) for point in points]
                for budget_bytes, points in self.frontiers.items()
            },
        }

    def _more(self) -> str:
        said = f"With {format_budget(self.budget_bytes + GIB)}, 1 GB more: "
        if self.more is None:
            return f"{said}nothing is predicted, as {self.not_predicted}."
        before, after = self.more
        if before is None or after is None:
            return f"{said}nothing is predicted to answer this."
        return f"{said}{_change(before.point, after.point)} Predicted, against what is predicted now."

    def _table(self) -> str:
        models = sorted(
            {
                (p.body_parameters, name)
                for points in self.frontiers.values()
                for name, (p, *_) in _models(points)
            }
        )
        rows = []
        for _, name in models:
            cells = [dict(_models(points)).get(name, []) for points in self.frontiers.values()]
            rows.append([name, *(_cell(points) for points in cells)])
        headers = ["Model", *(format_budget(budget_bytes) for budget_bytes in self.frontiers)]
        return markdown_table(headers, rows, align="l" + "r" * len(self.frontiers))


def find_changes(
    points: Sequence[Point], answer: Answer, filters: Filters, horizon: Horizon, root: Path, info: RunInfo
) -> Changes:
    """What would change in an answer of a run; predicted where the figures of its card are known.

    Raises: UserInputError where the run's study cannot be read.
    """
    budget_bytes = info.budget_bytes if filters.budget_bytes is None else filters.budget_bytes
    device = (
        answer.point.record.measurement.device
    )  # of a name that several cards have its memory tells which
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
            budgets = sorted({*BUDGETS_BYTES, *near})
            found = predict_under(definition, predictor, budgets, display.show_predicted)
        before, after = (_answer(found[size], answer, filters, horizon) for size in near)
        more = before, after
        frontiers = {size: find_frontier(found[size]) for size in BUDGETS_BYTES}
    return Changes(
        answer=answer,
        budget_bytes=budget_bytes,
        less=with_budget(points, answer.goal, horizon, budget_bytes - GIB),
        doubled=double_context(points, answer.point),
        more=more,
        frontiers=frontiers,
        not_predicted=not_predicted,
    )


def _answer(points: Sequence[Point], answer: Answer, filters: Filters, horizon: Horizon) -> Answer | None:
    try:
        passing = filters.without_measured().select(points)
    except NothingFitsError:
        return None
    return find_answer(passing, answer.goal, horizon)


def _change(point: Point, other: Point) -> str:
    if other.record.digest == point.record.digest:
        return "the same configuration."
    return f"{describe_point(other)}; {compare(point, other)}."


def _models(points: Sequence[Point]) -> list[tuple[str, list[Point]]]:
    return list(by_model(point for point in points if point.candidate.mode == "train").items())


def _cell(points: Sequence[Point]) -> str:
    if not points:
        return "-"
    best = max(points, key=lambda p: (p.tokens_per_s, -p.peak_bytes, p.record.digest))
    return f"{best.candidate.shape} ~{float(f'{best.tokens_per_s:.3g}'):,.0f}"
