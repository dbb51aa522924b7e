"""`phase8-tune recommend`: what of a run answers a goal, in words and as a settings file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from . import options

GOALS = ("balanced", "throughput", "model-size", "context", "memory", "compute-optimal")


@click.command(context_settings=options.HELP)
@click.argument("run")
@options.runs_dir
@click.option("--goal", type=click.Choice(GOALS), help="What for; without it a table of all.")
@click.option("--model", "models", metavar="NAME", multiple=True, help="Only this; may be repeated.")
@click.option("--min-seq", metavar="N", type=click.IntRange(min=1), help="Sequences at least as long.")
@click.option(
    "--min-params",
    "min_parameters",
    metavar="N",
    callback=options.count,
    help="Models at least as large, such as 50m; position table not counted.",
)
@click.option(
    "--max-power",
    "max_power_w",
    metavar="WATTS",
    type=click.FloatRange(min=0, min_open=True),
    help="As measured.",
)
@click.option(
    "--vram", "budget_bytes", metavar="SIZE", callback=options.size, help="A smaller budget than the run's."
)
@click.option(
    "--tokens-per-update", metavar="N", callback=options.count, help="No batch of more tokens, such as 512k."
)
@click.option(
    "--train-time",
    "train_time_s",
    metavar="TIME",
    callback=options.duration,
    help="For balanced and compute-optimal. [24h]",
)
@click.option("--data-tokens", metavar="N", callback=options.count, help="Of your text, such as 300m.")
@click.option(
    "--law",
    type=click.Choice(["besiroglu", "hoffmann"]),
    default="besiroglu",
    show_default=True,
    help="By which losses are expected.",
)
@click.option("--what-if", is_flag=True, help="And what other memory or a longer sequence would change.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def recommend(
    run: str,
    runs_dir: Path,
    goal: str | None,
    train_time_s: float | None,
    data_tokens: int | None,
    law: str,
    what_if: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Choose of RUN (its name, or its folder) what answers a goal, and write its settings file.

    The file is recommended/goal-NAME.yaml in the run's folder. Needs no GPU; docs/goals.md says what each
    goal means.

    Exit codes: 0 done; 2 wrong input; 3 nothing fits what was asked.
    """
    from ..goals.filters import Filters
    from ..goals.goals import Goal, answer_goal, find_answers
    from ..goals.loss import DAY_S, LAWS, Horizon
    from ..goals.wording import why
    from ..records.frontier import to_points
    from ..records.journal import read_records
    from ..records.recommend import has_settings
    from ..records.run_directory import RunPaths, read_run_info
    from ..report.answers import answer_to_dict, render_answer, render_table
    from ..study.model_names import known_or_same
    from ..training.recommended import goal_path, write_goals
    from ..values.shell_words import shell_path
    from ..values.terminal import terminal_width

    root = options.run_folder(run, runs_dir)
    info = read_run_info(root)
    asked["models"] = tuple(map(known_or_same, asked["models"]))
    filters = Filters(**asked)
    horizon = Horizon(
        train_time_s=DAY_S if train_time_s is None else train_time_s,
        law=next(law_of for name, law_of in LAWS.items() if name == law),
        data_tokens=data_tokens,
    )
    points = filters.select(to_points(read_records(RunPaths(root=root).journal)))
    answers = find_answers(points, horizon) if goal is None else [answer_goal(points, Goal(goal), horizon)]
    folder = root / "recommended"
    changes = None
    if what_if:
        from .what_if import find_changes

        changes = find_changes(points, answers[0], filters, horizon, root, info)
    if as_json:
        found: dict[str, Any] = {
            "run": str(root),
            "answers": [
                answer_to_dict(answer, filters, horizon)
                | {"file": str(goal_path(folder, answer.goal)) if has_settings(answer.point) else None}
                for answer in answers
            ],
        }
        if changes is not None:
            found["what_if"] = changes.to_dict()
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        width = terminal_width(sys.stdout)
        if goal is None:
            click.echo(render_table(answers, filters, horizon, root, width=width), nl=False)
        else:
            click.echo(render_answer(answers[0], filters, horizon, width=width), nl=False)
        if changes is not None:
            click.echo("\n" + changes.render(width), nl=False)
    written = write_goals({a.goal: (a.point, why(a, filters, horizon)) for a in answers}, folder)
    if not as_json:
        click.echo("\n" + "".join(f"Written:  {path}\n" for path in written), nl=False)
    if not as_json and written:
        click.echo(f"\nNext:  phase8-train {shell_path(written[0])} --data FILE")
