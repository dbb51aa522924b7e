"""`phase8-tune workload`: a file for a model of one's own, and whether it does what it should."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ..values.errors import PromiseBrokenError, UserInputError
from . import options

_MARKS = {True: "ok", False: "wrong", None: "note"}


@click.group(context_settings=options.HELP)
def workload() -> None:
    """Tune a model of your own: write a file to begin with, and try it."""


@workload.command(context_settings=options.HELP)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def init(file: Path) -> None:
    """Write FILE, a small model as phase8-tune can tune it, to be changed to yours."""
    from importlib.resources import files

    from ..values.shell_words import shell_path

    if file.suffix != ".py":
        raise UserInputError(f"{file}: expected the name of a Python file, such as my_model.py")
    text = files("phase8_tune.tuner.workloads").joinpath("template.py").read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text.replace("FILE.py", shell_path(file)))
    except FileExistsError:
        raise UserInputError(
            f"{file}: expected a file that is not there yet, got one; name another"
        ) from None
    except OSError as error:
        raise UserInputError(f"{file}: cannot be written: {error.strerror}") from None
    click.echo(f"Written:  {file}\n\nNext:  phase8-tune workload check {shell_path(file)}:build")


@workload.command(context_settings=options.HELP)
@click.argument("name")
@click.option("--model", help="[the first that it names]")
@click.option("--batch", "batch_size", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--set", "others", metavar="AXIS=VALUE", multiple=True, help="Another value than the default.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def check(name: str, model: str | None, batch_size: int, others: tuple[str, ...], as_json: bool) -> None:
    """Try NAME, as my_model.py:build: build it, take some steps, predict its memory, and say what is wrong.

    Exit codes: 0 it can be tuned; 1 something is wrong; 2 wrong input.
    """
    from ..doctor.answers import WorkloadAnswer
    from ..doctor.children import ask_child
    from ..values.terminal import fill, terminal_width
    from ..workloads.spec import spec_of
    from .asked_candidate import asked_candidate

    spec = spec_of(name)
    chosen = model or next(iter((*spec.searched_models, *spec.models)), "model")
    candidate = asked_candidate(
        workload=name, model=chosen, batch_size=batch_size, mode="train", precision=None, others=others
    )
    command = [
        sys.executable,
        "-m",
        "phase8_tune.tuner.doctor.workload_probe",
        json.dumps(candidate.to_dict()),
    ]
    reply = ask_child(command, WorkloadAnswer, timeout_s=600.0)
    if reply.answer is None:
        raise PromiseBrokenError(f"{candidate.describe()}: {reply.failure}")
    tried = reply.answer.tried
    wrong = sum(one.is_ok is False for one in tried)
    if as_json:
        click.echo(reply.answer.model_dump_json(indent=2))
    else:
        width = terminal_width(sys.stdout)
        axes = ", ".join(spec.by_name) or "none"
        click.echo(
            fill(f"{spec.title}: counts {spec.items}; axes: {axes}\ntried: {candidate.describe()}", width)
        )
        for one in tried:
            click.echo(fill(f"{_MARKS[one.is_ok]:5}  {one.what}: {one.told}", width))
    if wrong:
        raise PromiseBrokenError(f"{name}: {wrong} of {len(tried)} things to correct")
