"""What a run ends with on a terminal: the answer for `balanced` and where the rest is, not a table of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..goals.filters import Filters
from ..goals.goals import Answer, Goal
from ..goals.loss import Horizon
from ..records.recommend import has_settings
from ..records.results import Results
from ..training.recommended import goal_path
from ..values.shell_words import shell_path
from ..values.terminal import fill
from .answers import render_answer
from .display import Ending
from .recommendations import run_answers
from .terminal import render_files, render_frontier, render_outcomes, render_plan


def render_ending(ending: Ending, *, width: int | None) -> str:
    """How it ended, what came of the configurations, the answer, and where the files are.

    width: columns of the terminal; None: no limit.
    """
    results, root = ending.results, ending.run_root
    if ending.plan is not None:
        head = render_plan(ending.plan, len(results.settled))
    else:
        reason = ending.reason
        ended = "it failed; what was measured is kept" if reason is None else reason.sentence
        head = f"Search ended: {ended}.\n{render_outcomes(results.settled)}"
    answers = run_answers(results)
    balanced = find_balanced(answers)
    settings = None
    if balanced is not None and has_settings(balanced.point):
        settings = goal_path(root / "recommended", Goal.BALANCED)
    parts = [fill(f"\n{head}", width)]
    if balanced is not None:
        parts.append(f"{_render(balanced, width)}\n{fill(_pointers(results, root, answers), width)}\n\n")
    elif results.frontier:
        parts.append(f"{render_frontier(results.frontier, root, is_short=True, width=width)}\n")
    return "".join([*parts, render_files(root, ending.recommended, settings)])


def render_quiet_ending(ending: Ending, *, width: int | None) -> str:
    """The answer for `balanced`, or the frontier where nothing of it trains; empty where nothing fits."""
    balanced = find_balanced(run_answers(ending.results))
    if balanced is not None:
        return _render(balanced, width)
    if not ending.results.frontier:
        return ""
    return render_frontier(ending.results.frontier, ending.run_root, is_short=True, width=width)


def find_balanced(answers: Sequence[Answer]) -> Answer | None:
    """The answer to `balanced`, None where there is none."""
    return next((answer for answer in answers if answer.goal is Goal.BALANCED), None)


def _render(answer: Answer, width: int | None) -> str:
    return render_answer(answer, Filters(), Horizon(), width=width)


def _pointers(results: Results, run_root: Path, answers: Sequence[Answer]) -> str:
    """The commands that show all else."""
    run, front = shell_path(run_root), len(results.frontier)
    others = ", ".join(answer.goal for answer in answers if answer.goal is not Goal.BALANCED)
    return (
        f"All {front} configurations of the frontier: phase8-tune frontier {run}\n"
        f"The answers to {others}: phase8-tune recommend {run}"
    )
