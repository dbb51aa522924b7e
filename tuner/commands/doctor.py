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
@click.option(
    "--bundle",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also a zip of what a report of a problem needs, without your names, paths and numbers.",
)
@click.option("--run", metavar="RUN", help="With --bundle: this run's records and logs too.")
@click.pass_context
def doctor(
    context: click.Context,
    /,
    gpus: str | None,
    runs_dir: Path,
    as_json: bool,
    bundle: Path | None,
    run: str | None,
) -> None:
    """Check GPU, driver, PyTorch, Triton and memory, and say what to do about each problem.

    Exit codes: 0 training on a GPU will work; 2 wrong input; 4 it will not.
    """
    from ..doctor.bundle import check_bundle_path, make_bundle
    from ..doctor.diagnosis import diagnose, render
    from ..doctor.gather import gather_facts
    from ..values.errors import UserInputError
    from ..values.terminal import terminal_width

    root = None
    if bundle is not None:
        check_bundle_path(bundle)
    if run is not None:
        if bundle is None:
            raise UserInputError("--run: expected together with --bundle FILE, got it alone; add --bundle")
        root = options.run_folder(run, runs_dir)
        if not root.is_dir():
            raise UserInputError(f"--run: expected a run, got {root}, which is no folder; name one")
    diagnosis = diagnose(gather_facts(runs_dir=runs_dir, gpu=gpus))
    width = terminal_width(sys.stdout)
    click.echo(diagnosis.model_dump_json(indent=2) if as_json else render(diagnosis, width=width))
    if bundle is not None:
        made = make_bundle(diagnosis, root)
        click.echo("\n" + made.describe(with_originals=True), err=True)
        made.write(bundle)
        click.echo(f"Written: {bundle}; look through it before you send it", err=True)
    context.exit(diagnosis.exit_code)
