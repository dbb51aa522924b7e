"""Answers to goals for a terminal: one in words, or all of them as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..goals.filters import Filters
from ..goals.goals import Answer
from ..goals.loss import Horizon
from ..goals.wording import caveats, describe_point, why
from ..records.frontier import Point
from ..records.wording import rate_unit
from ..values.shell_words import shell_path
from ..values.sizes import MIB, format_budget
from ..values.terminal import fill
from .facts import describe_device, describe_rate
from .fitted_table import SPREAD, fit_table

_INDENT = "  "


def render_answer(answer: Answer, filters: Filters, horizon: Horizon, *, width: int | None = None) -> str:
    """One answer in words: the configuration with its figures, why, what the next best would change.

    width: columns of the terminal; None: no limit.
    """
    device = answer.point.record.measurement.device
    origin = "" if device is None else f", {describe_device(device)}"
    lines = [f"{answer.goal}: {describe_point(answer.point)}{origin}"]
    lines += [_INDENT + line for line in why(answer, filters, horizon)[1:]]
    lines += [_INDENT + line for line in caveats(answer, filters, horizon)]
    return fill("\n".join(lines), width) + "\n"


def render_table(
    answers: Sequence[Answer], filters: Filters, horizon: Horizon, run_root: Path, *, width: int | None
) -> str:
    """The answers to all goals as a table, a row a goal, and the command that says why.

    width: columns of the terminal; None: no limit.
    """
    headers, rows, align = answers_table(answers)
    table = fit_table(
        headers,
        rows,
        align=align,
        width=width,
        order=("Next best", f"{headers[2]}{SPREAD}"),
        shows_all=f"phase8-tune recommend {shell_path(run_root)} --json",
    )
    device = answers[0].point.record.measurement.device
    title = "Answers" if device is None else f"Answers {describe_device(device)}"
    budget = format_budget(answers[0].point.record.budget_bytes)
    asked = f", with {filters.describe()}" if filters.describe() else ""
    head = f"{title}, budget {budget}{asked}. 1 MB = 2^20 bytes."
    said = next((answer for answer in answers if answer.losses), answers[0])
    notes = caveats(said, filters, horizon)
    tail = "\n".join(
        [*notes, f"Why, for one of them: phase8-tune recommend {shell_path(run_root)} --goal GOAL"]
    )
    return f"{fill(head, width)}\n\n{table}\n\n{fill(tail, width)}\n"


def answers_table(answers: Sequence[Answer]) -> tuple[list[str], list[list[str]], str]:
    """Headers, rows and alignment (a letter a column) of answers, a row a goal."""
    rows = [
        [
            answer.goal,
            answer.point.candidate.describe(),
            describe_rate(answer.point.record) or "-",
            f"{answer.point.peak_bytes / MIB:,.0f}",
            "-" if answer.next_best is None else answer.next_best.candidate.describe(),
        ]
        for answer in answers
    ]
    unit = rate_unit(answer.point.candidate for answer in answers).capitalize()
    headers = ["Goal", "Configuration", unit, "Peak memory (MB)", "Next best"]
    return headers, rows, "llrrl"


def answer_to_dict(answer: Answer, filters: Filters, horizon: Horizon) -> dict[str, Any]:
    """An answer as JSON has it."""
    return {
        "goal": answer.goal,
        "definition": answer.goal.sentence,
        "asked": filters.describe() or None,
        "point": point_to_dict(answer.point),
        "why": [*why(answer, filters, horizon), *caveats(answer, filters, horizon)],
        "next_best": None if answer.next_best is None else point_to_dict(answer.next_best),
        "beaten_by": [point_to_dict(point) for point in answer.beaten_by],
        "losses": [
            {
                "model": item.model,
                "loss": item.loss,
                "tokens": item.tokens,
                "epochs": item.epochs,
                "in_band": item.in_band,
                "is_extrapolated": item.is_extrapolated,
            }
            for item in answer.losses
        ],
    }


def point_to_dict(point: Point) -> dict[str, Any]:
    """A point as JSON has it, with its configuration."""
    return {
        "digest": point.record.digest,
        "candidate": point.candidate.to_dict(),
        "tokens_per_s": point.tokens_per_s,
        "peak_bytes": point.peak_bytes,
        "parameters": point.parameters,
        "body_parameters": point.body_parameters,
        "is_predicted": point.record.measurement.predicted is not None,
    }
