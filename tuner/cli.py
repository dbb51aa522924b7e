"""`phase8-tune`: options and exit codes, no logic. Heavy imports wait until a command needs them."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from .commands.doctor import doctor
from .commands.predict import predict
from .measuring.failures import exception_chain
from .values.errors import InterruptedStudyError, Phase8TuneError, UserInputError
from .values.sizes import parse_duration, parse_size

_RUNS_DIR = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where runs lie.",
)


def _size(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    return None if text is None else parse_size(text, what=option.opts[0])


def _duration(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    return None if text is None else parse_duration(text, what=option.opts[0])


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--vram",
    "vram_bytes",
    metavar="SIZE",
    callback=_size,
    help="Memory budget, for example 8GB: 8 × 2^30 bytes.",
)
@click.option("--study", metavar="NAME|FILE", help="default, cpu, seed_table, or a YAML file. [by device]")
@click.option(
    "--gpu", metavar="NAME", help="Plan for this card of gpus.yaml, measuring nothing. [where no GPU is here]"
)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option(
    "--gpus", metavar="WHICH", help="all, or 0,2 or UUIDs as `nvidia-smi -L` lists them. [the first]"
)
@click.option("--run", "run_name", metavar="NAME", help="Name of the run. [study-budget-device]")
@_RUNS_DIR
@click.option("--trials", type=click.IntRange(min=1), help="How many to measure. [by study]")
@click.option(
    "--time", "time_limit_s", metavar="TIME", callback=_duration, help="When to stop: 30m. [by study]"
)
@click.option("--timeout", "timeout_s", metavar="TIME", callback=_duration, help="Of one trial. [by study]")
@click.option(
    "--reserve", "reserve_bytes", metavar="SIZE", callback=_size, help="Part left to other programs. [0]"
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the sampler. [by study]")
@click.version_option(package_name="phase8-tune", message="%(version)s")
@click.pass_context
def cli(context: click.Context, /, vram_bytes: int | None, reserve_bytes: int | None, **options: Any) -> None:
    """Find training settings for the Phase 8 model that fit your GPU, by measuring them.

    \b
    phase8-tune --vram 8GB     searches, and writes runs/NAME/ with recommended/*.yaml and report.md;
                               the same command again goes on where it stopped

    Without a GPU, or for one named with --gpu, the same study is predicted instead: nothing is measured.

    Exit codes: 0 done; 2 wrong input; 3 nothing fits; 4 the GPU or its driver failed; 130 interrupted.
    """
    if context.invoked_subcommand is not None:
        return
    if vram_bytes is None:
        raise UserInputError("--vram: expected the memory budget, for example --vram 8GB, got nothing")
    from .commands.request import RunRequest
    from .commands.tune import execute

    command = shlex.join(["phase8-tune", *context.meta["arguments"]])
    execute(RunRequest(vram_bytes=vram_bytes, reserve_bytes=reserve_bytes or 0, command=command, **options))


@cli.command()
@click.argument("run")
@_RUNS_DIR
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option("--seq", "n_seqs", type=int, multiple=True, help="Only this sequence; may be repeated.")
@click.option("--version", "kernel_versions", multiple=True, help="Only these kernels; may be repeated.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
def frontier(run: str, runs_dir: Path, as_csv: bool, **chosen: Any) -> None:
    """Print the frontier of RUN (its name, or its folder) again; needs no GPU."""
    from .commands.frontier import FrontierFilter, show_frontier

    show_frontier(run, runs_dir, FrontierFilter(**chosen), as_csv=as_csv)


cli.add_command(predict)
cli.add_command(doctor)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. A user's error is one line on standard error; a bug keeps its traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with cli.make_context("phase8-tune", list(arguments)) as context:
            context.meta["arguments"] = arguments
            cli.invoke(context)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        _fail(f"{message}; see phase8-tune --help", UserInputError.exit_code)
    except Phase8TuneError as error:
        interrupted = any(isinstance(part, KeyboardInterrupt) for part in exception_chain(error))
        if interrupted and error.exit_code != InterruptedStudyError.exit_code:
            _fail_interrupted()  # what failed is what a second Ctrl-C tore apart
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail_interrupted()
    except BrokenPipeError:  # `phase8-tune … | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail_interrupted() -> NoReturn:
    _fail("interrupted; what was measured is kept", InterruptedStudyError.exit_code)


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"phase8-tune: {message}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
