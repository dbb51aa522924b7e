"""Texts as one mapped array of token ids: made once, kept in the cache folder, split and checked."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..values.atomic_write import replaced_whole
from ..values.errors import UserInputError
from ..values.sizes import MIB
from .documents import Errors
from .sources import Source
from .token_files import Progress, ids_dtype, map_ids, sizes_and_times, write_ids
from .tokenizer import Ids, Tokenizer

_FORMAT = 1
"""Of the files in the cache: what they hold for the same texts and tokenizer."""

_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}
_SAMPLE_BLOCKS = 64
_IDENTITY_BLOCK = 16 * 1024
_ENTROPY_BLOCK = 64 * 1024
_COUNTED_UP_TO = 1 << 24
_DRAFT_OF_THE_DEAD_S = 86400.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tokens:
    """All tokens to train on.

    array: [count] of uint8, uint16 or uint32, mapped from a file and read-only; digest: which tokens these
    are, wherever they lie; source: what they were made of, for people; note: a line for people where they
    are not kept for the next time.
    """

    array: Ids
    digest: str
    source: str
    note: str | None = None


def open_tokens(
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    *,
    field: str = "text",
    force: bool = False,
    cache: Path | None,
    on_progress: Progress,
) -> Tokens:
    """The tokens of the sources, from the folder `tokens` in `cache`, or made and put there.

    What is kept goes by the files' paths, sizes and times, the tokenizer and `field`; when one of these
    changes the tokens are made anew, and those of the same files before are removed. One token file is
    mapped where it is; several are copied into one. Without a cache, or where it cannot be written, the
    tokens are in a temporary file, which ends with the process; the note says so.

    force: bytes that are no UTF-8 are taken, by a tokenizer that has no ids for them as �.
    on_progress: bytes of the sources done, and in all; not called where nothing is to be made.
    Raises: UserInputError where a source cannot be read or is not what it should be (`check_text` says so
    sooner), changes meanwhile, or where the disk is full, with nothing left behind.
    """
    described = _describe(sources)
    if len(sources) == 1 and sources[0].kind == "tokens":
        return _tokens(map_ids(sources[0].path), described)
    before = sizes_and_times(sources)
    dtype = ids_dtype(sources, tokenizer)

    def make(file: BinaryIO) -> None:
        errors: Errors = "strict"
        if force:
            errors = "surrogateescape" if tokenizer.keeps_bytes else "replace"
        write_ids(file, sources, tokenizer, field=field, errors=errors, on_progress=on_progress)
        if sizes_and_times(sources) != before:
            raise UserInputError(f"{described}: changed while it was read; run it again once it is written")

    note = "the tokens are in a temporary file and are made anew next time"
    if cache is not None:
        folder = cache / "tokens"
        path = folder / _file_name(before, sources, tokenizer, field, force, dtype.itemsize)
        try:
            if not (path.is_file() and path.stat().st_size):
                with replaced_whole(path) as draft, draft.open("wb") as file:
                    make(file)
                _remove_outdated(path)
            return _tokens(np.memmap(path, dtype=dtype, mode="r"), described)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise _no_room(folder, error) from error
            note = f"{folder}: cannot be written ({error.strerror}): {note}; set PHASE8_TUNE_CACHE to another"
    return _temporary(make, dtype, described, note)


def split(tokens: Tokens, n_seq: int, held_out: float = 0.05) -> tuple[Ids, Ids]:
    """(training part, held-out tail) of the array, mapped as it is: each at least one window of n_seq + 1.

    held_out: share of the tokens. Raises: UserInputError where there are too few for both.
    """
    count = len(tokens.array)
    tail = max(int(count * held_out), n_seq + 1)
    if count - tail < n_seq + 1:
        possible = count // 2 - 1
        smaller = f", or settings with n_seq: {possible} or less" if possible > 0 else ""
        raise UserInputError(
            f"{tokens.source}: expected at least {2 * (n_seq + 1):,} tokens for n_seq={n_seq} (a window to "
            f"train on and one held out), got {count:,}; give --data more text{smaller}"
        )
    return tokens.array[:-tail], tokens.array[-tail:]


def unigram_entropy(array: Ids) -> float:
    """Entropy of the token frequencies in nats: the best loss of a model that ignores context.

    Of an array of more than 4 Mi tokens, 64 blocks spread evenly over it are counted: of 50,000 different
    tokens that tells some 0.006 nats too little.
    """
    sample = np.concatenate(list(_spread_blocks(array, _ENTROPY_BLOCK)))
    if len(sample) and sample.max() < _COUNTED_UP_TO:
        counts = np.bincount(sample)
        counts = counts[counts > 0]
    else:
        counts = np.unique(sample, return_counts=True)[1]
    p = counts / max(len(sample), 1)
    return float(-(p * np.log(p)).sum()) if len(p) > 1 else 0.0


def check_vocabulary(
    array: Ids, tokenizer: Tokenizer, vocab_size: int, count_parameters: Callable[[int], int] | None = None
) -> str | None:
    """Refuse tokens that the model has no row for; a line for people where it has many more rows than needed.

    The whole array is read, unless no id that its type holds is too large.
    count_parameters: of the model, had it that many tokens; without it the note tells rows only.
    Raises: UserInputError for an id of vocab_size or more.
    """
    largest = None
    if int(np.iinfo(array.dtype).max) >= min(vocab_size, tokenizer.vocab_size):
        largest = int(array.max())
    if largest is not None and largest >= vocab_size:
        needed = max(largest + 1, tokenizer.vocab_size)
        raise UserInputError(
            f"--data: expected tokens below vocab_size={vocab_size:,}, got {largest:,}; put "
            f"`vocab_size: {needed}` in the settings, or name a tokenizer with fewer tokens"
        )
    if largest is not None and largest >= tokenizer.vocab_size:
        return (
            f"--tokenizer {tokenizer.name} has {tokenizer.vocab_size:,} tokens and did not write this data, "
            f"where {largest:,} stands; to show as text what is trained, name the tokenizer that did"
        )
    unused = vocab_size - tokenizer.vocab_size
    if unused * 4 <= vocab_size:
        return None
    wasted = f"{unused:,} rows of its vocabulary are"
    if count_parameters is not None:
        parameters = count_parameters(vocab_size) - count_parameters(tokenizer.vocab_size)
        wasted = f"{parameters:,} parameters ({parameters * 4 / MIB:.1f} MB) and {wasted}"
    return (
        f"--tokenizer {tokenizer.name} has {tokenizer.vocab_size:,} tokens, the model {vocab_size:,}: "
        f"{wasted} never used; put `vocab_size: {tokenizer.vocab_size}` in the settings"
    )


def _tokens(array: Ids, source: str, note: str | None = None) -> Tokens:
    return Tokens(array=array, digest=_identity(array), source=source, note=note)


def _identity(array: Ids) -> str:
    """Which tokens these are, whatever type they are kept in: their number, and 64 blocks of them (1 Mi)."""
    digest = hashlib.sha256(str(len(array)).encode())
    for block in _spread_blocks(array, _IDENTITY_BLOCK):
        digest.update(block.astype("<u4").tobytes())
    return digest.hexdigest()


def _spread_blocks(array: Ids, length: int) -> Iterator[Ids]:
    """The whole array where it is no longer than all blocks, else the blocks, from its start to its end."""
    if len(array) <= length * _SAMPLE_BLOCKS:
        yield array
        return
    for place in range(_SAMPLE_BLOCKS):
        start = (len(array) - length) * place // (_SAMPLE_BLOCKS - 1)
        yield array[start : start + length]


def _file_name(
    before: Sequence[tuple[str, int, int]],
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    field: str,
    force: bool,
    itemsize: int,
) -> str:
    """The name in the cache: first which files and how, then in which state they are."""
    kinds = [source.kind for source in sources]
    how = "tokens" if kinds[0] == "tokens" else tokenizer.digest()
    what = [_FORMAT, how, field if "jsonl" in kinds else None, [path for path, _, _ in before], kinds]
    state = [force, [times for _, *times in before]]
    names = (hashlib.sha256(json.dumps(part).encode()).hexdigest() for part in (what, state))
    return "-".join(name[:24] for name in names) + f".u{8 * itemsize}"


def _remove_outdated(path: Path) -> None:
    """Remove what was made of the same files before, and drafts that a killed process left."""
    with contextlib.suppress(OSError):
        for other in path.parent.glob(f"{path.name.partition('-')[0]}-*"):
            if other != path:
                other.unlink(missing_ok=True)
        for draft in path.parent.glob(".*.tmp"):
            if time.time() - draft.stat().st_mtime > _DRAFT_OF_THE_DEAD_S:
                draft.unlink(missing_ok=True)


def _temporary(
    make: Callable[[BinaryIO], None], dtype: np.dtype[np.unsignedinteger], source: str, note: str
) -> Tokens:
    """Tokens in a file without a name, so that it goes with the process whatever ends it."""
    try:
        with tempfile.TemporaryFile() as file:
            make(file)
            file.flush()
            return _tokens(np.memmap(file, dtype=dtype, mode="r"), source, note)
    except OSError as error:
        raise _no_room(Path(tempfile.gettempdir()), error) from error


def _no_room(folder: Path, error: OSError) -> UserInputError:
    return UserInputError(
        f"{folder}: expected room for the tokens, got: {error.strerror or error}; make room, or set "
        "PHASE8_TUNE_CACHE (or TMPDIR) to a folder on another disk"
    )


def _describe(sources: Sequence[Source]) -> str:
    """The one file, or how many in which folder."""
    if len(sources) == 1:
        return str(sources[0].path)
    return f"{len(sources)} files in {os.path.commonpath([os.path.abspath(s.path.parent) for s in sources])}"
