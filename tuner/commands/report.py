"""`phase8-tune report`: the report of a run that is on disk, again; needs no GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    from ..records.run_directory import RunInfo
    from ..report.facts import RunFacts


@click.command(context_settings=options.HELP)
@click.argument("run")
@options.runs_dir
@click.option(
    "--what-if", is_flag=True, help="And predict first what other budgets would give; as long as a plan."
)
def report(run: str, runs_dir: Path, what_if: bool) -> None:
    """Write the report of RUN (its name, or its folder) anew, on any computer.

    That is report.html, report.md, the pictures, trials.csv and the settings files, in the run's folder, as
    this version writes them.

    Exit codes: 0 done; 2 wrong input.
    """
    from ..records.journal import read_records
    from ..records.results import Results
    from ..records.run_directory import RunPaths, read_run_info
    from ..report.kept_facts import read_facts
    from ..report.outputs import write_outputs
    from ..report.terminal import render_files
    from ..search.estimates import read_estimates
    from ..training.recommended import goal_path

    root = options.run_folder(run, runs_dir)
    info = read_run_info(root)
    results = Results.of(read_records(RunPaths(root=root).journal))
    facts = read_facts(root, info, results)
    if what_if:
        _predict(facts, info)
        facts = replace(facts, estimates=read_estimates(root))
    recommended = write_outputs(results, facts)
    balanced = goal_path(root / "recommended", "balanced")
    click.echo(render_files(root, recommended, balanced if balanced.exists() else None), nl=False)


def _predict(facts: RunFacts, info: RunInfo) -> None:
    """Keep in the run's folder what its study is predicted to give under other budgets.

    Raises: UserInputError where no figures of the card are known, or the study is no product of axes.
    """
    from ..predict.fits import RECOMMEND
    from ..predict.outlook import Outlook
    from ..predict.prediction import Predictor
    from ..predict.store import PredictionStore
    from ..records.run_directory import RunPaths
    from ..report.displays import display_for_people
    from ..search.decisions import decide
    from ..search.estimates import keep_estimates
    from ..study.definition import load_definition
    from ..values.errors import UserInputError
    from .what_if import profile_of

    root, budget_bytes = facts.run_root, facts.budget_bytes
    profile = profile_of(info, facts.device)
    if profile is None:
        is_cpu = info.device_kind == "cpu"
        else_ = "" if is_cpu else ", or measure them there with phase8-tune predict --calibrate"
        raise UserInputError(
            f"--what-if: expected a run of a card whose figures are known, got one of "
            f"{'a CPU' if is_cpu else info.device_name}; leave it out{else_}"
        )
    definition = load_definition(str(RunPaths(root=root).definition))
    if not definition.products:
        raise UserInputError(
            f"--what-if: expected a study with axes, got {definition.name}, which has rows; leave it out, "
            "and see phase8-tune recommend RUN --what-if"
        )
    outlooks: list[Outlook] = []
    with PredictionStore() as store, display_for_people(sys.stdout, sys.stderr) as display:
        predictor = Predictor(profile=profile, store=store, reserve_bytes=facts.reserve_bytes)
        decide(definition, predictor, budget_bytes, outlooks.append, display.show_predicted)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    keep_estimates(root, outlooks, RECOMMEND.budget_bytes(budget_bytes), profile, budget_bytes, now)
