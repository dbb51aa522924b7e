"""`phase8-tune doctor`: what this computer can do, and what to do about each problem."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--gpus", metavar="WHICH", help="One number or UUID as `nvidia-smi -L` lists it. [the first]")
@click.option(
    "--runs-dir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where runs lie.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a report.")
@click.pass_context
def doctor(context: click.Context, /, gpus: str | None, runs_dir: Path, as_json: bool) -> None:
    """Check GPU, driver, PyTorch, Triton and memory, and say what to do about each problem.

    Exit codes: 0 training on a GPU will work; 4 it will not.
    """
    from ..doctor.diagnosis import diagnose, render
    from ..doctor.gather import gather_facts

    diagnosis = diagnose(gather_facts(runs_dir=runs_dir, gpu=gpus))
    click.echo(diagnosis.model_dump_json(indent=2) if as_json else render(diagnosis))
    context.exit(diagnosis.exit_code)
