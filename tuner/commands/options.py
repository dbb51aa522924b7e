"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..values.errors import UserInputError
from ..values.sizes import parse_count, parse_duration, parse_size

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Context settings of every command."""

runs_dir = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where runs lie.",
)


def run_folder(run: str, runs_dir: Path) -> Path:
    """Of a run by its name, or by its folder."""
    return Path(run) if os.path.isdir(run) else runs_dir / run  # False for a folder that may not be entered


gpu_file = click.option(
    "--gpu-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The same for a card that this YAML file describes.",
)


def size(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Callback of an option that takes a size: bytes.

    Raises: UserInputError.
    """
    return None if text is None else parse_size(text, what=option.opts[0])


def reserve(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Callback of --reserve: bytes, or None for auto, the default.

    Raises: UserInputError.
    """
    if text is None or text.strip() == "auto":
        return None
    if text.strip() == "0":
        return 0
    try:
        return parse_size(text, what=option.opts[0], least_bytes=0)
    except UserInputError as error:
        raise UserInputError(f"{error}; give a size, 0 or auto") from None


def duration(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Callback of an option that takes a length of time: seconds.

    Raises: UserInputError.
    """
    return None if text is None else parse_duration(text, what=option.opts[0])


def names(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of an option that takes names, several with commas or repeated: each once."""
    return tuple(dict.fromkeys(name for text in texts for name in text.split(",") if name))


def count(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Callback of an option that takes a number of things, such as 512k.

    Raises: UserInputError.
    """
    return None if text is None else parse_count(text, what=option.opts[0])
