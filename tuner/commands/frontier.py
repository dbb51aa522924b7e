"""`phase8-tune frontier`: the frontier of a run that is on disk, again; needs no GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from . import options


@click.command(context_settings=options.HELP)
@click.argument("run")
@options.runs_dir
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option("--seq", "n_seqs", type=int, multiple=True, help="Only this sequence; may be repeated.")
@click.option("--version", "kernel_versions", multiple=True, help="Only these kernels; may be repeated.")
@click.option(
    "--per-cell", is_flag=True, help="Of each model and sequence what no other of it beats, not of all."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
def frontier(run: str, runs_dir: Path, per_cell: bool, as_csv: bool, **chosen: Any) -> None:
    """Print the frontier of RUN (its name, or its folder) again; needs no GPU."""
    from ..records.cells import frontier_of_cells
    from ..records.frontier import FrontierFilter, find_frontier, to_points
    from ..records.journal import read_records
    from ..records.run_directory import RunPaths, read_run_info
    from ..report.terminal import render_frontier
    from ..report.trials_csv import render_csv
    from ..study.model_names import known_or_same
    from ..values.errors import NothingFitsError
    from ..values.terminal import terminal_width

    root = options.run_folder(run, runs_dir)
    read_run_info(root)
    points = to_points(read_records(RunPaths(root=root).journal))
    if not points:
        raise NothingFitsError(f"{root}: nothing that was measured in this run fits its budget")
    chosen["models"] = tuple(map(known_or_same, chosen["models"]))
    chosen_points = FrontierFilter(**chosen).select(points)
    front = find_frontier(chosen_points)
    shown = frontier_of_cells(chosen_points) if per_cell else front
    if as_csv:
        click.echo(render_csv([p.record for p in shown], front), nl=False)
    else:
        text = render_frontier(shown, root, is_per_cell=per_cell, width=terminal_width(sys.stdout))
        click.echo(text, nl=False)
