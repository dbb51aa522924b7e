"""`phase8-tune verify FILE.yaml`: whether a recommended file keeps its promise, by training with it."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..values.errors import PromiseBrokenError, UserInputError
from ..values.terminal import terminal_width
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
    from ..report.verified import render_verified, verified_to_dict

    tell = functools.partial(click.echo, err=True)
    found = verify_files(paths, tell, data=data, steps=steps, seconds=seconds, device=device, write=write)
    if as_json:
        click.echo(json.dumps([verified_to_dict(one) for one in found], indent=2))
    else:
        click.echo(render_verified(found, width=terminal_width(sys.stdout)), nl=False)
    check_held(found)


def check_held(found: Sequence[Verification]) -> None:
    """Raises: PromiseBrokenError where a promise did not hold."""
    broken = [str(one.path) for one in found if not one.held]
    if broken:
        raise PromiseBrokenError(f"{', '.join(broken)}: what was promised did not hold; see above")


def recommended_files(run: str, runs_dir: Path) -> list[Path]:
    """The settings files that a run recommends, each configuration once, by its model where it is its best.

    Raises: UserInputError where it has none, or one that is not understood.
    """
    from ..training.recommended import is_goal_file
    from ..training.settings import load_settings

    root = options.run_folder(run, runs_dir)
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
    tell: Callable[[str], None],
    *,
    data: str | None = None,
    steps: int = 200,
    seconds: float = 60.0,
    device: Literal["auto", "cuda", "cpu"] = "auto",
    write: bool = False,
) -> list[Verification]:
    """Verify one file after the other; `write` adds to each what was found. tell: told of each in lines.

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
        tell(f"verifying {path}: {steps} steps, evaluation, checkpoint, {seconds:g} s more")
        one = verify_one(path, settings, data=data, steps=steps, steady_s=seconds, device=device)
        found.append(one)
        verdict = "holds" if one.held else "; ".join(one.problems)
        tell(f"{path.stem}: {one.tokens_per_s:,.0f} tokens/s, {format_mb(one.peak_bytes)} MB: {verdict}")
        if write:
            verified = to_verified(one, steps=steps, steady_s=seconds)
            reasons = read_reasons(read_text_file(path, "settings file"))
            write_atomically(path, to_yaml(settings.model_copy(update={"verified": verified}), reasons))
    return found
