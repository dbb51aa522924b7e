"""`phase8-tune compare`: two finished runs side by side, and what changed beyond the noise; needs no GPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from . import options


@click.command(context_settings=options.HELP)
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="RUN")
@options.runs_dir
@click.option("--all", "shows_all", is_flag=True, help="All configurations, not the first 20.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which always has all.")
@click.option(
    "--page",
    "page",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the page goes. [compared-with-FIRST.html in the second RUN]",
)
def compare(
    first: str, second: str, runs_dir: Path, shows_all: bool, as_json: bool, page: Path | None
) -> None:
    """Compare two runs (their names, or their folders): two cards, two versions of PyTorch, before and after.

    Says what differs around them, the best of each model and sequence side by side, what changed by more
    than both measurements' intervals, the largest change first, and what fits in one run only; and writes a
    page with both, to be opened in a browser. Needs no GPU.

    Exit codes: 0 done; 2 wrong input.
    """
    from ..records.journal import read_records
    from ..records.run_directory import RunPaths, read_run_info
    from ..report.comparison import comparison_to_dict, render_comparison
    from ..report.comparison_page import render_comparison_page
    from ..report.comparison_tables import ComparedRun
    from ..search.estimates import read_estimates
    from ..values.atomic_write import write_atomically
    from ..values.errors import UserInputError
    from ..values.shell_words import shell_path
    from ..values.terminal import terminal_width

    runs = []
    for run in (first, second):
        root = options.run_folder(run, runs_dir)
        info = read_run_info(root)
        records = read_records(RunPaths(root=root).journal)
        if not records:
            raise UserInputError(f"{root}: expected a run with records, got none yet; search first")
        estimates = read_estimates(root)
        run_of = ComparedRun(name=str(root), info=info, records=records, estimates=estimates)
        runs.append((root, run_of))
    (one_root, one), (other_root, other) = runs
    if one_root.resolve() == other_root.resolve():
        raise UserInputError(f"{one_root}: expected two runs, got the same twice; name another")
    written = page or other_root / f"compared-with-{one_root.resolve().name}.html"
    command = f"phase8-tune compare {shell_path(one_root)} {shell_path(other_root)}"
    try:
        write_atomically(written, render_comparison_page(one, other, command))
    except OSError as error:
        raise UserInputError(
            f"{written}: cannot be written: {error.strerror}; name another place with --page"
        ) from None
    if as_json:
        click.echo(json.dumps(comparison_to_dict(one, other), indent=2, ensure_ascii=False))
        return
    width = terminal_width(sys.stdout)
    text = render_comparison(one, other, shows_all=shows_all, json_command=f"{command} --json", width=width)
    click.echo(f"{text}\nTo explore:   {written}")
