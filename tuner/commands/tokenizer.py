"""`phase8-train tokenizer`: makes a tokenizer of the user's own text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from tqdm import tqdm as ProgressBar

from ..values.errors import UserInputError
from . import options

if TYPE_CHECKING:
    from ..training.sources import Source
    from ..training.tokenizer import Tokenizer

_SAMPLE_CHARS = 1024 * 1024
_SMALLEST, _LARGEST = 257, 1_000_000


@click.command(name="tokenizer", context_settings=options.HELP)
@click.argument("data", nargs=-1, required=True, metavar="DATA...")
@click.option(
    "--vocab-size",
    type=click.IntRange(_SMALLEST, _LARGEST),
    required=True,
    metavar="N",
    help="Tokens, at most.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE.json",
    help="Tokenizer to write; an earlier one is replaced.",
)
@click.option(
    "--field", default="text", show_default=True, help="What holds the text in a line of JSON Lines."
)
@click.option("--force", is_flag=True, help="Go on with what does not look like UTF-8 text.")
def tokenizer(data: tuple[str, ...], vocab_size: int, output: Path, field: str, force: bool) -> None:
    """Make a byte-pair tokenizer of DATA: files, folders and quoted patterns, as for phase8-train --data.

    It has every byte, so that any text can be told in it, and <|endoftext|>, which stands between documents.
    """
    from ..training.sources import check_text, find_sources
    from ..training.tokenizer import tokenizer_from_json, train_tokenizer
    from ..values.atomic_write import write_atomically

    _check_output(output)
    sources = find_sources(data)
    for source in sources:
        check_text(source, force=force)
    with _ReadingBar() as bar:
        made = train_tokenizer(sources, vocab_size, bar.show, field=field, force=force)
    try:
        write_atomically(output, made)
    except OSError as error:
        raise UserInputError(
            f"--output: expected a file that can be written, got {output}: {error.strerror}; choose another"
        ) from error
    trained = tokenizer_from_json(made, name=str(output))
    fewer = f" (this text gives no more, of {vocab_size:,})" if trained.vocab_size < vocab_size else ""
    rate = _bytes_per_token(sources, trained, field)
    click.echo(f"{output}: {trained.vocab_size:,} tokens{fewer}, {rate:.2f} bytes a token on this text")
    click.echo(
        f"train with --tokenizer {shlex.quote(str(output))}, and `vocab_size: {trained.vocab_size}` in the "
        f"settings, as phase8-tune --vocab-size {trained.vocab_size} writes them"
    )


def _check_output(output: Path) -> None:
    """Refuse to replace what is no tokenizer, and a folder that is not there: before anything costs time."""
    from ..training.tokenizer import load_tokenizer

    if not output.parent.is_dir():
        raise UserInputError(f"--output: expected a folder that is there, got {output.parent}; make it first")
    if output.exists():
        try:
            load_tokenizer(str(output.absolute()))
        except UserInputError as error:
            raise UserInputError(
                f"--output: expected a new file or an earlier tokenizer, got {output}, which is something "
                "else; choose another name"
            ) from error


def _bytes_per_token(sources: Sequence[Source], trained: Tokenizer, field: str) -> float:
    """Mean over the first 1 Mi characters, of each source no more than its share of them."""
    from ..training.documents import read_pieces

    text_bytes = tokens = 0
    for source in sources:
        left = max(_SAMPLE_CHARS // len(sources), 1)
        for piece in read_pieces(source, field=field, errors="replace"):
            text = piece.text[:left]
            text_bytes += len(text.encode("utf-8", "replace"))
            tokens += len(trained.encode(text))
            left -= len(text)
            if left <= 0:
                break
    return text_bytes / max(tokens, 1)


class _ReadingBar:
    """How much of the text is read, on a terminal."""

    def __init__(self) -> None:
        self._bar: ProgressBar[NoReturn] = ProgressBar(
            desc="reading",
            unit="B",
            unit_scale=True,
            leave=False,
            delay=1,
            disable=None,  # where standard error is no terminal
        )

    def show(self, done: int, total: int) -> None:
        """done, total: bytes."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.set_description("merging")

    def __enter__(self) -> _ReadingBar:
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.close()
