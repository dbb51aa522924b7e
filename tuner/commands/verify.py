"""`phase8-tune verify FILE.yaml`: whether a recommended file keeps its promise, by training with it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..values.errors import PromiseBrokenError, UserInputError
from ..values.shell_words import shell_path
from ..values.terminal import fill, terminal_width
from . import options

if TYPE_CHECKING:
    from ..training.verification import Verification


@click.command(context_settings=options.HELP)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE.yaml]...")
@click.option("--all", "run", metavar="RUN", help="All that RUN (its name, or its folder) recommends.")
@options.runs_dir
@click.option("--data", metavar="PATH", help="Text to train on. [Python's standard library]")
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True, help="To begin with.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Then, steady.",
)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option("--write", is_flag=True, help="Add what was found to the file, under verified:.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, an object a file, instead of a table.")
def verify(
    files: tuple[Path, ...],
    run: str | None,
    runs_dir: Path,
    data: str | None,
    steps: int,
    seconds: float,
    device: Literal["auto", "cuda", "cpu"],
    write: bool,
    as_json: bool,
) -> None:
    """Train as FILE.yaml says, in processes of their own: steps, evaluation, a checkpoint written and read
    back.

    Exit codes: 0 the promise holds; 1 it does not: tokens/s are off by more than 3 % (of a predicted file:
    outside its interval), or memory exceeds the budget, or the promise by more than 0.5 %.
    """
    paths = list(files) if run is None else [*files, *recommended_files(run, runs_dir)]
    if not paths:
        raise UserInputError("FILE.yaml: expected a recommended file, or --all RUN, got neither")
    found = verify_files(paths, data=data, steps=steps, seconds=seconds, device=device, write=write)
    report_verified(found, as_json=as_json)


def report_verified(found: Sequence[Verification], *, as_json: bool) -> None:
    """Print what was found.

    Raises: PromiseBrokenError where a promise did not hold.
    """
    if as_json:
        rows = [asdict(one) | {"path": str(one.path), "held": one.held} for one in found]
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(render(found, width=terminal_width(sys.stdout)))
    broken = [str(one.path) for one in found if not one.held]
    if broken:
        raise PromiseBrokenError(f"{', '.join(broken)}: what was promised did not hold; see above")


def recommended_files(run: str, runs_dir: Path) -> list[Path]:
    """The settings files that a run recommends, each configuration once, by its model where it is its best.

    Raises: UserInputError where it has none, or one that is not understood.
    """
    from ..training.recommended import is_goal_file
    from ..training.settings import load_settings

    root = Path(run) if os.path.isdir(run) else runs_dir / run
    paths = sorted((root / "recommended").glob("*.yaml"), key=lambda path: (is_goal_file(path), path.name))
    if not paths:
        raise UserInputError(f"--all: expected a run with recommended files, got {root}, which has none")
    chosen: dict[Path, str | None] = {}
    for path in paths:
        settings = load_settings(path)
        origin = settings.measured or settings.predicted
        digest = None if origin is None else origin.digest
        if not is_goal_file(path) or digest not in chosen.values():
            chosen[path] = digest
    return list(chosen)


def verify_files(
    paths: Sequence[Path],
    *,
    data: str | None = None,
    steps: int = 200,
    seconds: float = 60.0,
    device: Literal["auto", "cuda", "cpu"] = "auto",
    write: bool = False,
) -> list[Verification]:
    """Verify one file after the other; `write` adds to each what was found.

    Raises: as `verification.verify`.
    """
    from ..training.recommended import read_reasons, to_yaml
    from ..training.settings import load_settings
    from ..training.verification import to_verified
    from ..training.verification import verify as verify_one
    from ..values.atomic_write import write_atomically
    from ..values.sizes import format_mb
    from ..values.yaml_reading import read_text_file

    found = []
    for path in paths:
        settings = load_settings(path)
        click.echo(f"verifying {path}: {steps} steps, evaluation, checkpoint, {seconds:g} s more", err=True)
        one = verify_one(path, settings, data=data, steps=steps, steady_s=seconds, device=device)
        found.append(one)
        verdict = "holds" if one.held else "; ".join(one.problems)
        click.echo(
            f"{path.stem}: {one.tokens_per_s:,.0f} tokens/s, {format_mb(one.peak_bytes)} MB: {verdict}",
            err=True,
        )
        if write:
            verified = to_verified(one, steps=steps, steady_s=seconds)
            reasons = read_reasons(read_text_file(path, "settings file"))
            write_atomically(path, to_yaml(settings.model_copy(update={"verified": verified}), reasons))
    return found


def render(found: Sequence[Verification], *, width: int | None = None) -> str:
    """A table, and a line for each thing that did not hold or differs from the file's machine.

    width: columns of the terminal; None: no limit.
    """
    from ..report.fitted_table import fit_table
    from ..values.sizes import format_mb

    rows = [
        (
            one.path.stem,
            f"{one.tokens_per_s:,.0f}",
            f"{one.promised_tokens_per_s[0]:,.0f}–{one.promised_tokens_per_s[1]:,.0f}",
            format_mb(one.peak_bytes),
            format_mb(one.promised_peak_bytes),
            format_mb(one.budget_bytes),
            "holds" if one.held else "does not hold",
        )
        for one in found
    ]
    headers = ("file", "tokens/s", "promised", "peak (MB)", "promised (MB)", "budget (MB)", "promise")
    table = fit_table(
        headers,
        rows,
        align="lrrrrrl",
        width=width,
        order=("budget (MB)", "promised (MB)", "promised"),
        shows_all=f"phase8-tune verify {' '.join(shell_path(one.path) for one in found)} --json",
    )
    lines = []
    for one in found:
        lines += [f"{one.path}: {problem}" for problem in one.problems]
        lines += [f"{one.path}: differs: {difference}" for difference in one.differences]
    return "\n".join([table, *(fill(line, width) for line in lines)])
