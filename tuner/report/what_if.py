"""What other memory, or twice the sequence, would change in an answer: in words, as a table, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..goals.goals import Answer, Goal, find_answer
from ..goals.loss import Horizon, by_model
from ..goals.what_if import BUDGETS_BYTES, GIB, Doubled, beside_own, double_context, with_budget
from ..goals.wording import compare, describe_point
from ..html.facts import Section
from ..records.frontier import Point
from ..records.recommend import is_trainable
from ..values.candidate import Candidate
from ..values.sizes import format_budget
from .answers import point_to_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What would be otherwise with other memory, or twice the sequence.

    less: the answer with 1 GB less, of the run's own points. more: predicted answers with the run's budget
    and with 1 GB more, None where nothing is predicted. not_predicted: why.
    """

    answer: Answer
    budget_bytes: int
    less: Answer | None
    doubled: Doubled | None
    more: tuple[Answer | None, Answer | None] | None
    not_predicted: str

    def said(self) -> list[tuple[str, str]]:
        """What is said of it, each with its name."""
        point, now = self.answer.point, self.budget_bytes
        found = []
        if now > GIB:
            less = "nothing fits" if self.less is None else _change(point, self.less.point)
            found.append((f"with {format_budget(now - GIB)}, 1 GB less", less))
        found.append((f"with {format_budget(now + GIB)}, 1 GB more", self._more()))
        if point.candidate.spec.items_axis is not None:
            found.append((f"twice the {_length(point.candidate)}", self._doubled()))
        return found

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
        }

    def _more(self) -> str:
        if self.more is None:
            return f"nothing is predicted, as {self.not_predicted}"
        before, after = self.more
        if before is None or after is None:
            return "nothing is predicted to answer this"
        said = f"{_change(before.point, after.point)}; predicted"
        if self.answer.point.record.measurement.predicted is not None:
            return said
        own = format_budget(self.budget_bytes)
        return f"{said}, against {describe_point(before.point)}, predicted with {own}"

    def _doubled(self) -> str:
        if self.doubled is None:
            return "no configuration of this model in this run fits it"
        before, then = self.answer.point.candidate, self.doubled.point.candidate
        settings = ", ".join(
            f"{_heading(before, name)} {_shown(then, name)} for {_shown(before, name)}"
            for name in self.doubled.changed
            if name != before.spec.items_axis  # which the comparison says
        )
        return f"takes {settings or 'nothing else'}: {compare(self.answer.point, self.doubled.point)}"


def changes_of(
    points: Sequence[Point],
    answer: Answer,
    horizon: Horizon,
    budget_bytes: int,
    *,
    more: tuple[Answer | None, Answer | None] | None,
    not_predicted: str,
) -> Changes:
    """What would change in an answer among points; `more` and `not_predicted` as in `Changes`."""
    return Changes(
        answer=answer,
        budget_bytes=budget_bytes,
        less=with_budget(points, answer.goal, horizon, budget_bytes - GIB),
        doubled=double_context(points, answer.point),
        more=more,
        not_predicted=not_predicted,
    )


def more_of(
    predicted: Mapping[int, Sequence[Point]], goal: Goal, horizon: Horizon, budget_bytes: int
) -> tuple[Answer | None, Answer | None] | None:
    """The predicted answers with a budget and with 1 GB more; None where one of them was not predicted."""
    near = budget_bytes, budget_bytes + GIB
    if not all(size in predicted for size in near):
        return None
    before, after = (find_answer([*filter(is_trainable, predicted[size])], goal, horizon) for size in near)
    return before, after


def budgets_section(
    predicted: Mapping[int, Sequence[Point]], own: Sequence[Point], budget_bytes: int
) -> Section:
    """The answer for `balanced` and each model's fastest: predicted for the budgets of common cards, and
    beside them what the run itself found under its own."""
    if not predicted:
        return Section(title="")
    shown = other_budgets(predicted, own, budget_bytes)
    headers, rows, align = budgets_table(shown, budget_bytes)
    balanced = (find_answer(points, Goal.BALANCED, Horizon()) for points in shown.values())
    first = ("balanced", *("-" if answer is None else _named(answer.point) for answer in balanced))
    return Section(
        title="Under other budgets (predicted)",
        lines=(
            "For the same study and card, or one as fast with more memory: the answer for `balanced`, and "
            "the fastest of each model, with batch and tokens/s. Under its own budget it is what this run "
            "found. What has a ~ is predicted, of other budgets with rough batches; `phase8-tune recommend "
            "RUN --what-if` follows every one.",
        ),
        rows=(tuple(headers), first, *map(tuple, rows)),
        align=align,
    )


def other_budgets(
    predicted: Mapping[int, Sequence[Point]], own: Sequence[Point], budget_bytes: int
) -> dict[int, list[Point]]:
    """The training points of each column of the table: common budgets, and those of the run under its own."""
    found = beside_own(predicted, own, budget_bytes)
    columns = {size: found[size] for size in BUDGETS_BYTES if size in found} | {budget_bytes: list(own)}
    return {size: [*filter(is_trainable, columns[size])] for size in sorted(columns)}


def budgets_table(
    found: Mapping[int, Sequence[Point]], budget_bytes: int
) -> tuple[list[str], list[list[str]], str]:
    """The fastest of each model under each budget, the smallest model first. budget_bytes: the run's own."""
    models = {size: by_model(points) for size, points in found.items()}
    sizes = {name: points[0].body_parameters for own in models.values() for name, points in own.items()}
    rows = [
        [name, *(_best(own.get(name, [])) for own in models.values())]
        for name in sorted(sizes, key=lambda name: (sizes[name], name))
    ]
    heads = (format_budget(size) + " (this run)" * (size == budget_bytes) for size in found)
    return ["Model", *heads], rows, "l" + "r" * len(found)


def _change(point: Point, other: Point) -> str:
    if other.record.digest == point.record.digest:
        return "the same configuration"
    return f"{describe_point(other)}; {compare(point, other)}"


def _named(point: Point) -> str:
    return f"{' '.join(point.candidate.model_words)} {_cell(point)}"


def _best(points: Sequence[Point]) -> str:
    if not points:
        return "-"
    return _cell(max(points, key=lambda p: (p.tokens_per_s, -p.peak_bytes, p.record.digest)))


def _cell(point: Point) -> str:
    is_predicted = point.record.measurement.predicted is not None
    return f"{point.candidate.shape} {'~' * is_predicted}{float(f'{point.tokens_per_s:.3g}'):,.0f}"


def _heading(candidate: Candidate, name: str) -> str:
    axis = candidate.spec.by_name.get(name)
    return name.replace("_size", "") if axis is None else axis.heading.lower()


def _length(candidate: Candidate) -> str:
    return _heading(candidate, candidate.spec.items_axis or "")


def _shown(candidate: Candidate, name: str) -> str:
    axis, value = candidate.spec.by_name.get(name), candidate.field(name)
    return str(value) if axis is None else axis.show(value)
