"""Small corpora for the tests, and a tokenizer made of one."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from phase8_tune.tuner.training.sources import Source
from phase8_tune.tuner.training.tokenizer import (
    BytesTokenizer,
    Tokenizer,
    tokenizer_from_json,
    train_tokenizer,
)
from phase8_tune.tuner.training.tokens import Tokens, open_tokens

BYTES = BytesTokenizer()
WORDS = (
    "the",
    "house",
    "of",
    "größe",
    "日本語",
    "wonderful",
    "ness",
    "don't",
    "1984",
    "x = 1;",
    "🙂",
    "naïve",
)


def make_text(words: int, seed: int = 0) -> str:
    """Lines of words with the white space that texts have: indents, blank lines, Windows line ends."""
    chosen = random.Random(seed)
    gaps = (" ", " ", " ", " ", "\n", "\n\n", "\r\n", "  ", "\n    ", " \n", ". ", ".\n")
    return "".join(chosen.choice(WORDS) + chosen.choice(gaps) for _ in range(words))


def write_text(path: Path, text: str) -> Source:
    """A text file, its line ends as they are."""
    path.write_bytes(text.encode())
    return Source(path=path, kind="text")


def write_lines(path: Path, records: list[object]) -> Source:
    """A JSON Lines file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return Source(path=path, kind="jsonl")


def ignore_progress(done: int, total: int) -> None:
    """A progress callback that says nothing."""


@functools.cache
def trained_tokenizer(vocab_size: int = 320) -> Tokenizer:
    """A byte-pair tokenizer of `make_text`."""
    with TemporaryDirectory() as folder:
        source = write_text(Path(folder, "corpus.txt"), make_text(3000))
        return tokenizer_from_json(train_tokenizer([source], vocab_size, ignore_progress), name="trained")


def opened(
    sources: Sequence[Source] | Source,
    cache: Path | None,
    tokenizer: Tokenizer = BYTES,
    *,
    field: str = "text",
    force: bool = False,
) -> Tokens:
    """The tokens of one source or several."""
    each = [sources] if isinstance(sources, Source) else sources
    return open_tokens(each, tokenizer, field=field, force=force, cache=cache, on_progress=ignore_progress)
