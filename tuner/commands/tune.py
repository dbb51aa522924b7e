"""`phase8-tune --vram SIZE`: the search itself, or a plan where nothing can be measured."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..values.candidate import LARGEST_VOCAB_SIZE
from ..values.errors import UserInputError
from . import options
from .entry import command_line


@click.group(invoke_without_command=True, context_settings=options.HELP)
@click.option(
    "--vram",
    "vram_bytes",
    metavar="SIZE",
    callback=options.size,
    help="Memory budget, for example 8GB: 8 × 2^30 bytes.",
)
@click.option("--study", metavar="NAME|FILE", help="default, cpu, seed_table, or a YAML file. [by device]")
@click.option(
    "--gpu", metavar="NAME", help="Plan for this card, see `gpus`; measures nothing. [where no GPU is here]"
)
@options.gpu_file
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option(
    "--gpus", metavar="WHICH", help="all, or 0,2 or UUIDs as `nvidia-smi -L` lists them. [the first]"
)
@click.option(
    "--cluster", metavar="auto|ADDRESS", help="The GPUs of a Ray cluster, or this computer's through one."
)
@click.option("--gpu-model", metavar="NAME", help="Which of a cluster's GPUs: H200. [the most numerous]")
@click.option("--storage", metavar="URL", help="A database that holds the study too, of any host's run.")
@click.option(
    "--take-over", "is_taken_over", is_flag=True, help="Go on where a driver of another host has died."
)
@click.option(
    "--model",
    "models",
    metavar="NAME",
    multiple=True,
    help="Only this: small, or d_model x layers, 640x10; may be repeated. [by study]",
)
@click.option(
    "--workload",
    "workloads",
    metavar="NAME",
    multiple=True,
    callback=options.names,
    help="phase8, transformer, hf, or your own FILE.py:FACTORY; several: a,b. [by study]",
)
@click.option(
    "--vocab-size", metavar="N", type=click.IntRange(1, LARGEST_VOCAB_SIZE), help="Of the models. [by study]"
)
@click.option("--run", "run_name", metavar="NAME", help="Name of the run. [study-budget-device]")
@options.runs_dir
@click.option("--trials", type=click.IntRange(min=1), help="How many to measure. [by study]")
@click.option(
    "--time", "time_limit_s", metavar="TIME", callback=options.duration, help="When to stop: 30m. [by study]"
)
@click.option(
    "--timeout", "timeout_s", metavar="TIME", callback=options.duration, help="Of one attempt. [by study]"
)
@click.option(
    "--reserve",
    "reserve_bytes",
    metavar="auto|SIZE",
    callback=options.reserve,
    help="Part left to a display and other programs, 0 for none. [auto: what they hold, and some more]",
)
@click.option(
    "--verify", "is_verified", is_flag=True, help="Then train with each recommended file for a while."
)
@click.option("--quiet", "is_quiet", is_flag=True, help="Print the answer alone, and what goes wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line for each event.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the sampler. [by study]")
@click.option(
    "--sampler",
    type=click.Choice(["tpe", "nsga2", "gp", "random", "grid"]),
    help="Who proposes after the likely best. [by study]",
)
@click.option(
    "--exhaustive", is_flag=True, default=None, help="Measure all that is predicted to fit; takes long."
)
@click.version_option(package_name="phase8-tune", message="%(version)s")
@click.pass_context
def tune(
    context: click.Context,
    /,
    vram_bytes: int | None,
    is_verified: bool,
    is_quiet: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Find training settings for the Phase 8 model that fit your GPU, by measuring them.

    \b
    phase8-tune --vram 8GB     searches, and writes runs/NAME/ with recommended/*.yaml and report.md;
                               the same command again goes on where it stopped

    Without a GPU, or for one named with --gpu, the same study is predicted instead: nothing is measured.

    Exit codes: 0 done; 1 a promise did not hold (--verify); 2 wrong input; 3 nothing fits; 4 the GPU or
    its driver failed; 128 + signal when ended by one, 130 for Ctrl-C.
    """
    if context.invoked_subcommand is not None:
        return
    if vram_bytes is None:
        raise UserInputError("--vram: expected the memory budget, for example --vram 8GB, got nothing")
    if is_quiet and as_json:
        raise UserInputError("--quiet: expected it or --json, got both; leave out one")
    from ..report.displays import choose_display
    from .measured_run import execute
    from .request import RunRequest

    display = choose_display(sys.stdout, sys.stderr, is_quiet=is_quiet, as_json=as_json)
    done = execute(RunRequest(vram_bytes=vram_bytes, command=command_line(context), **asked), display)
    if is_verified:
        from .verify import check_held, verify_files

        settings = [path for path in done.recommended if path.suffix == ".yaml"]
        found = verify_files(settings, display.tell, write=True)
        display.show_verified(found)
        check_held(found)
