"""What a run answers to every goal, in words and as a table, for its report and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..goals.filters import Filters
from ..goals.goals import Answer
from ..goals.loss import Horizon
from ..goals.what_if import beside_own
from ..goals.wording import caveats, compare, describe_figures, reasons
from ..html.facts import GoalWords, Section
from ..records.frontier import Point
from ..records.recommend import has_settings, is_trainable
from ..records.results import Results
from ..records.wording import rate_unit
from ..training.recommended import goal_path
from ..values.shell_words import shell_path
from ..values.sizes import format_budget
from .answers import answers_table
from .facts import RunFacts, describe_device
from .recommendations import run_answers
from .what_if import changes_of, more_of

Estimates = Mapping[int, Sequence[Point]]
"""Predicted points by budget; empty where nothing is predicted."""


def told_answers(
    results: Results, budget_bytes: int, estimates: Estimates, run: str = ""
) -> tuple[GoalWords, ...]:
    """The answers of a run to every goal, each with what other memory or a longer sequence would change.

    run: its name, where there are several.
    """
    points = [point for point in results.points if is_trainable(point)]
    return tuple(_words(answer, points, budget_bytes, estimates, run) for answer in run_answers(results))


def _words(
    answer: Answer, points: Sequence[Point], budget_bytes: int, estimates: Estimates, run: str
) -> GoalWords:
    filters, horizon = Filters(), Horizon()
    device = answer.point.record.measurement.device
    is_cpu = device is not None and device.kind == "cpu"
    changes = changes_of(
        points,
        answer,
        horizon,
        budget_bytes,
        more=more_of(beside_own(estimates, points, budget_bytes), answer.goal, horizon, budget_bytes),
        not_predicted="it is of a CPU"
        if is_cpu
        else "of other budgets this run keeps nothing: phase8-tune report RUN --what-if adds it",
    )
    return GoalWords(
        goal=answer.goal,
        digest=answer.point.record.digest,
        configuration=answer.point.candidate.describe(),
        figures=describe_figures(answer.point),
        said=(
            (answer.goal, answer.goal.sentence.replace("tokens/s", rate_unit([answer.point.candidate]))),
            *reasons(answer, filters, horizon),
            *changes.said(),
        ),
        notes=tuple(caveats(answer, filters, horizon)),
        run=run,
    )


def answer_section(results: Results, facts: RunFacts) -> Section:
    """The answer to the first goal that has one, as a rule `balanced`, with why and what trains by it."""
    title = f"The answer for {format_budget(facts.budget_bytes)} (device: {facts.device.kind})"
    answers = run_answers(results)
    if not answers:
        which = "that was measured" if facts.plan is None else "of the study"
        return Section(title=title, lines=(f"No training configuration {which} fits the budget.",))
    first = answers[0]
    words = told_answers(results, facts.budget_bytes, facts.estimates)[0]
    lines = [f"**{words.configuration}**: {words.figures}, {describe_device(facts.device)}."]
    lines += [f"{name[0].upper()}{name[1:]}: {text.rstrip('.')}." for name, text in words.said]
    lines += words.notes
    if has_settings(first.point):
        path = goal_path(facts.run_root / "recommended", first.goal)
        lines.append(f"It trains by `phase8-train {shell_path(path)} --data FILE`.")
    return Section(title=title, lines=tuple(lines))


def goals_section(results: Results) -> Section:
    """The answers to all goals, a row each, with what the next best would cost or gain."""
    answers = run_answers(results)
    if not answers:
        return Section(title="")
    headers, rows, align = answers_table(answers)
    said = [
        (*row, "-" if answer.next_best is None else compare(answer.point, answer.next_best))
        for row, answer in zip(rows, answers, strict=True)
    ]
    lines = ["What each goal means, and why: `phase8-tune recommend RUN --goal GOAL`."]
    if any(has_settings(answer.point) for answer in answers):
        lines.insert(0, "Each is a settings file: `recommended/goal-<name>.yaml`.")
    return Section(
        title="The answers to every goal",
        lines=tuple(lines),
        rows=((*headers, "It would change"), *said),
        align=f"{align}l",
    )
