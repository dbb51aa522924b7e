"""`phase8-train FILE.yaml --data TEXT`: trains with the step that the tuner measured, and can always go
on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from . import options
from .entry import Unheard, enter


@click.command(context_settings=options.HELP)
@click.argument("settings_file", type=click.Path(path_type=Path), metavar="FILE.yaml")
@click.option(
    "--data", multiple=True, required=True, metavar="PATH", help="Text: a file, folder or glob; repeatable."
)
@click.option("--field", default="text", show_default=True, help="Of a .jsonl file: the key of the text.")
@click.option("--force", is_flag=True, help="Train on what does not look like text, too.")
@click.option(
    "--tokenizer", default="bytes", show_default=True, metavar="bytes|FILE.json|gpt2", help="Text to tokens."
)
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps in total.")
@click.option(
    "--max-time", "max_time_s", metavar="TIME", callback=options.duration, help="End and save after: 8h."
)
@click.option(
    "--tokens-per-update",
    metavar="N",
    callback=options.count,
    help="Gradients of several batches a step: 512k. [one batch]",
)
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True)
@click.option("--warmup", type=click.IntRange(min=0), help="Steps. [a tenth of all, at most 100]")
@click.option(
    "--evaluate-every", type=click.IntRange(min=1), default=500, show_default=True, help="In steps."
)
@click.option("--save-every", type=click.IntRange(min=1), default=500, show_default=True, help="In steps.")
@click.option("--log-every", type=click.IntRange(min=1), default=10, show_default=True, help="In steps.")
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option(
    "--vram", "vram_bytes", metavar="SIZE", callback=options.size, help="Budget on the GPU. [the settings']"
)
@click.option(
    "--reserve",
    "reserve_bytes",
    metavar="auto|SIZE",
    callback=options.reserve,
    help="Part of it left to a display and other programs, 0 for none. [auto]",
)
@click.option("--output", type=click.Path(path_type=Path), help="The trained weights. [FILE.safetensors]")
@click.option("--resume/--no-resume", default=True, show_default=True, help="Go on from a checkpoint.")
@click.option("--seed", type=click.IntRange(min=0), help="Of weights and batches. [0, or the checkpoint's]")
@click.option("--tensorboard", type=click.Path(path_type=Path), metavar="DIR", help="Event files, too.")
def train(settings_file: Path, output: Path | None, **asked: Any) -> None:
    """Train the model of FILE.yaml on a text; an existing checkpoint is gone on with.

    \b
    phase8-train FILE.yaml --data TEXT                              trains, and writes FILE.safetensors
    phase8-train tokenizer DATA --vocab-size N -o tokenizer.json    trains a tokenizer first

    Exit codes: 0 done; 1 the loss diverged; 2 wrong input; 4 the GPU failed or ran out of memory;
    128 + signal when ended by one, with a checkpoint of that step.
    """
    from ..training.session import Request, run_session

    run_session(
        Request(
            settings_file=settings_file, output=output or settings_file.with_suffix(".safetensors"), **asked
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, by default that of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["tokenizer"]:
        from .tokenizer import tokenizer

        enter("phase8-train tokenizer", tokenizer, given[1:])
        return
    enter("phase8-train", train, given, Unheard.SAYS_SO)


if __name__ == "__main__":
    main()
