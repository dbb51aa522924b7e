"""`phase8-tune gpus`: the cards that can be planned for by name, and what each of them cannot do."""

from __future__ import annotations

import json
import sys
from itertools import groupby

import click

from . import options
from .entry import command_line

_GIB = 1 << 30


@click.command(context_settings=options.HELP)
@click.argument("name", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON list with every figure and its source.")
@click.pass_context
def gpus(context: click.Context, /, name: tuple[str, ...], as_json: bool) -> None:
    """List the cards that --gpu knows; with NAME, such as 3060 ti, the one that is meant. Needs no GPU."""
    from ..predict.rate.abilities import LOWEST_CAPABILITY, lacking
    from ..predict.rate.profiles import gpu_profile, gpu_profiles
    from ..report.fitted_table import fit_table
    from ..values.terminal import terminal_width

    cards = [gpu_profile(" ".join(name))] if name else list(gpu_profiles().values())
    if as_json:
        listed = [card.model_dump() | {"lacks": lacking(card.compute_capability)} for card in cards]
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    rows: list[tuple[str, ...]] = []
    cards.sort(key=lambda card: -len(lacking(card.compute_capability)))
    for lacks, alike in groupby(cards, key=lambda card: lacking(card.compute_capability)):
        rows.append(
            (f"Without {', '.join(lacks)}" if lacks else f"With {', '.join(LOWEST_CAPABILITY)}", *[""] * 4)
        )
        rows.extend(
            (
                card.name,
                f"{card.capacity_bytes / _GIB:.4g}",
                f"{card.bandwidth.value / 1e9:,.0f}",
                f"{card.matrix_16bit.value / 1e12:,.0f}",
                card.title,
            )
            for card in alike
        )
    table = fit_table(
        ("Name", "GB", "GB/s", "TFLOP/s", "Card"),
        rows,
        align="lrrrl",
        width=terminal_width(sys.stdout),
        order=("Card", "TFLOP/s"),
        shows_all=f"{command_line(context)} --json",
    )
    click.echo(table)
