"""Real text that every computer with PyTorch has: Python code, as the tokens of a vocabulary of its own.

The modules of the standard library, and of packages that phase8-tune or PyTorch need anyway. The digest says
whether two texts are the same: with other versions of these they are not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..tuner.training.sources import Source
from ..tuner.training.tokenizer import Tokenizer, tokenizer_from_json, train_tokenizer

_HELD_OUT_EVERY = 25  # of the files
_INSTALLED = {"site-packages", "dist-packages"}
PACKAGES = ("torch", "sympy", "numpy", "sqlalchemy", "matplotlib", "networkx")
"""The large ones that people wrote: plotly's code is made by a program, and says the same a hundred times."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Text:
    """Tokens to learn from and tokens held out, int16 [count], which lie below `vocab_size`.

    bytes_per_token: of the held-out text. digest: the same for the same text and vocabulary.
    """

    train: NDArray[np.int16]
    held_out: NDArray[np.int16]
    vocab_size: int
    bytes_per_token: float
    digest: str
    train_bytes: int


def code_files(most_bytes: int) -> list[Path]:
    """UTF-8 modules in an order that follows from their names alone, up to so many bytes."""
    folders = [Path(sysconfig.get_paths()["stdlib"]), *map(_folder_of, PACKAGES)]
    named = {
        hashlib.sha256(str(path.relative_to(folder.parent)).encode()).hexdigest(): path
        for folder in folders
        for path in folder.rglob("*.py")
        if _INSTALLED.isdisjoint(path.relative_to(folder).parts)
    }
    chosen, size = [], 0
    for _, path in sorted(named.items()):
        if size >= most_bytes:
            break
        try:
            size += len(path.read_text(encoding="utf-8").encode())
        except (UnicodeDecodeError, OSError):
            continue
        chosen.append(path)
    return chosen


def make_text(most_bytes: int, vocab_size: int) -> Text:
    """The text as tokens of a byte-level BPE that is trained on the part to learn from.

    Raises: ValueError for a vocabulary that 16 bits with a sign do not hold.
    """
    if vocab_size > 2**15:
        raise ValueError(f"vocab_size: expected at most {2**15}, got {vocab_size}")
    files = code_files(most_bytes)
    held_out = files[::_HELD_OUT_EVERY]
    train = [path for place, path in enumerate(files) if place % _HELD_OUT_EVERY]
    made = train_tokenizer(
        [Source(path=path, kind="text") for path in train], vocab_size, lambda done, total: None, force=True
    )
    tokenizer = tokenizer_from_json(made, name="trained on this text")
    train_ids, held_out_ids = _tokens(train, tokenizer), _tokens(held_out, tokenizer)
    digest = hashlib.sha256(made.encode() + train_ids.tobytes() + held_out_ids.tobytes()).hexdigest()[:16]
    return Text(
        train=train_ids,
        held_out=held_out_ids,
        vocab_size=tokenizer.vocab_size,
        bytes_per_token=sum(path.stat().st_size for path in held_out) / len(held_out_ids),
        digest=digest,
        train_bytes=sum(path.stat().st_size for path in train),
    )


def _folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"the text needs the package {package}, which is not installed")
    return Path(spec.submodule_search_locations[0])


def _tokens(files: Sequence[Path], tokenizer: Tokenizer) -> NDArray[np.int16]:
    """All files one after the other, each with an end of text behind it."""
    end = np.array([tokenizer.end_of_text or 0])
    ids = tokenizer.encode_batch([path.read_text(encoding="utf-8") for path in files])
    return np.concatenate([part for each in ids for part in (each, end)]).astype(np.int16)
