"""`phase8-tune predict`: memory and throughput of one configuration, with no GPU needed."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..values.candidate import DEFAULT_VOCAB_SIZE, DEFAULT_WORKLOAD, LARGEST_VOCAB_SIZE
from ..values.errors import UserInputError
from ..values.sizes import format_budget, format_mb, parse_size
from . import options
from .entry import command_line

_PHASE_NAMES = {
    "setup": "while the model is built",
    "forward": "in the forward pass",
    "backward": "in the backward pass",
    "optimizer": "in the optimizer's step",
}


@click.command(context_settings=options.HELP)
@click.option(
    "--workload",
    default=DEFAULT_WORKLOAD,
    show_default=True,
    metavar="NAME",
    help="phase8, transformer, hf, or your own FILE.py:FACTORY.",
)
@click.option("--model", required=True, help="A preset, nano to giant, or as 640x10.")
@click.option("--seq", "n_seq", type=click.IntRange(min=1), help="Tokens a sequence.")
@click.option("--batch", "batch_size", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--gpu", metavar="NAME", help="A card, see `gpus`. [the one that is here, else rtx-3080-laptop]"
)
@options.gpu_file
@click.option("--vram", metavar="SIZE", help="Memory budget, for example 8GB. [the card's memory]")
@click.option("--reserve", metavar="SIZE", help="Part left to other programs. [0]")
@click.option("--kernel", "kernel_version", help="Kernel version. [phase8: fast]")
@click.option(
    "--checkpointing",
    "gradient_checkpointing",
    is_flag=False,
    flag_value="full",
    metavar="[none|selective|full]",
    help="What is computed again in the backward pass; full, where no value follows. [none]",
)
@click.option("--no-checkpointing", is_flag=True, hidden=True)  # as earlier versions had it
@click.option(
    "--optimizer-state", type=click.Choice(["fp32", "8bit"]), help="What AdamW's moments are kept in. [fp32]"
)
@click.option(
    "--master-weights",
    type=click.Choice(["fp32", "bf16_sr"]),
    help="What the large matrices are kept in; bf16_sr: bfloat16, rounded stochastically. [fp32]",
)
@click.option("--precision", type=click.Choice(["bf16", "fp16", "none"]), help="[phase8: bf16]")
@click.option("--mode", type=click.Choice(["train", "forward"]), default="train", show_default=True)
@click.option("--variant", type=click.Choice(["phase8", "phase7"]), help="[phase8]")
@click.option(
    "--vocab-size",
    type=click.IntRange(1, LARGEST_VOCAB_SIZE),
    help=f"Tokens of the model. [{DEFAULT_VOCAB_SIZE}]",
)
@click.option("--set", "others", metavar="AXIS=VALUE", multiple=True, help="Another axis of the workload.")
@click.option("--calibrate", is_flag=True, help="Measure the card that is here first, and keep its figures.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.pass_context
def predict(
    context: click.Context,
    /,
    gpu: str | None,
    gpu_file: Path | None,
    vram: str | None,
    reserve: str | None,
    no_checkpointing: bool,
    calibrate: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Predict memory and throughput of one configuration; nothing is run on a GPU."""
    from ..predict.fits import LAUNCH, RECOMMEND
    from ..predict.prediction import Predictor
    from ..predict.rate.calibration import calibrate_present, present_profile
    from ..predict.rate.profiles import chosen_profile
    from ..predict.store import PredictionStore
    from .asked_candidate import asked_candidate, check_card, savings_of

    if no_checkpointing:
        chosen["gradient_checkpointing"] = "none"
    candidate = asked_candidate(**chosen)
    asked = chosen_profile(gpu, gpu_file)
    if calibrate and asked is not None:
        option = "--gpu" if gpu_file is None else "--gpu-file"
        raise UserInputError(f"--calibrate: measures the card that is here; leave out {option}")
    profile = calibrate_present() if calibrate else asked or present_profile()
    budget_bytes = profile.capacity_bytes if vram is None else parse_size(vram, what="--vram")
    check_card(candidate, profile)
    with PredictionStore(processes=1) as store:
        predictor = Predictor(
            profile=profile,
            store=store,
            reserve_bytes=0 if reserve is None else parse_size(reserve, what="--reserve", least_bytes=0),
        )
        prediction = predictor.predict(candidate, budget_bytes)
        is_launched = not predictor.survey([candidate], budget_bytes, LAUNCH)[0].is_over
        largest_batch = predictor.largest_batch(candidate, budget_bytes)
        tried = [] if prediction.fits else savings_of(candidate)
        found = ((text, predictor.largest_batch(saving, budget_bytes)) for saving, text in tried)
        fits_with = next(({"options": text, "largest_batch": n} for text, n in found if n), None)
    if as_json:
        data = asdict(prediction) | {
            "candidate": candidate.to_dict(),
            "basis": "predicted",
            "fits_when": RECOMMEND.condition,
            "search_launches": is_launched,
            "search_launches_when": f"fits {LAUNCH.condition}",
            "largest_batch": largest_batch,
            "fits_with": fits_with,
            "ledger": [line.model_dump() for line in prediction.ledger],
        }
        click.echo(json.dumps(data, indent=2))
        return
    from ..report.fitted_table import fit_table
    from ..values.terminal import fill, terminal_width

    width = terminal_width(sys.stdout)

    def tell(text: str) -> None:
        click.echo(fill(text, width))

    tell(f"{candidate.describe()} on {profile.title}: predicted, not measured")
    rows = [(line.name, format_mb(line.size_bytes), line.source) for line in prediction.ledger]
    rows.append(("peak of the process", format_mb(prediction.peak_bytes), "sum"))
    click.echo(
        fit_table(
            ("memory", "MB", "source"),
            rows,
            align="lrl",
            width=width,
            order=("source",),
            shows_all=f"{command_line(context)} --json",
        )
    )
    where = f"{prediction.peak_op} {_PHASE_NAMES[prediction.peak_phase]}"
    tell(
        f"torch: {format_mb(prediction.peak_allocated_bytes)} MB allocated at the peak ({where}), "
        f"{format_mb(prediction.peak_reserved_bytes)} MB reserved"
    )
    verdict = f"{'fits' if prediction.fits else 'does not fit'} {RECOMMEND.condition}"
    if prediction.fits != is_launched:
        verdict += f"; {'fits' if is_launched else 'does not fit'} {LAUNCH.condition}, so a search "
        verdict += "launches and measures it" if is_launched else "does not launch it"
    largest = f"not even a batch of 1 fits {RECOMMEND.condition}"
    if largest_batch:
        largest = f"largest batch that fits {RECOMMEND.condition}: {largest_batch}"
    tell(f"budget {format_budget(budget_bytes)}: {verdict}; {largest}")
    if fits_with is not None:
        tell("fits with {options}: largest batch {largest_batch}".format(**fits_with))
    rate, unit = prediction.tokens_per_s, f"{candidate.spec.items}/s"
    tell(
        f"throughput: {rate.expected:,.0f} {unit} (90 %: {rate.low:,.0f} to {rate.high:,.0f}), "
        f"limited by {prediction.limited_by}"
    )
