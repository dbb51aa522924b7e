"""`phase8-tune doctor`: what this computer can do, and what to do about each problem."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from . import options


@click.command(context_settings=options.HELP)
@click.option("--gpus", metavar="WHICH", help="One number or UUID as `nvidia-smi -L` lists it. [the first]")
@options.runs_dir
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a report.")
@click.pass_context
def doctor(context: click.Context, /, gpus: str | None, runs_dir: Path, as_json: bool) -> None:
    """Check GPU, driver, PyTorch, Triton and memory, and say what to do about each problem.

    Exit codes: 0 training on a GPU will work; 4 it will not.
    """
    from ..doctor.diagnosis import diagnose, render
    from ..doctor.gather import gather_facts
    from ..values.terminal import terminal_width

    diagnosis = diagnose(gather_facts(runs_dir=runs_dir, gpu=gpus))
    width = terminal_width(sys.stdout)
    click.echo(diagnosis.model_dump_json(indent=2) if as_json else render(diagnosis, width=width))
    context.exit(diagnosis.exit_code)
