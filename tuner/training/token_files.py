"""Files of bare token ids: those that others write, and those that a text is turned into once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..values.errors import UserInputError
from .documents import Errors, Piece, read_pieces
from .sources import Source, unreadable
from .tokenizer import Ids, Tokenizer, token_dtype

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_BATCH_CHARS = 1024 * 1024  # a library's answer takes some 150 bytes a token until it is written
_COPIED_IDS = 1024 * 1024
_LOOKED_AT_IDS = 4096
_FEWEST_PAIRS = 32


def map_ids(path: Path) -> Ids:
    """The ids of a token file, [count], mapped and read-only: 16 bits each, or 32 where all look like that.

    32 bits where every second half of the first 4,096 is less than 16 (ids below 1,048,576) and not every
    other one is: no real text has its rarest tokens at every other place.
    Raises: UserInputError where the file cannot be read or its size fits neither.
    """
    try:
        ids: Ids = np.memmap(path, dtype="<u2", mode="r")
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError:
        raise UserInputError(
            f"{path}: expected token ids of 16 or 32 bits, got a file of another size"
        ) from None
    low, high = ids[:_LOOKED_AT_IDS:2], ids[1:_LOOKED_AT_IDS:2]
    if len(ids) % 2 or len(high) < _FEWEST_PAIRS or high.max() >= 16 or low.max() < 16:
        return ids
    return np.memmap(path, dtype="<u4", mode="r")


def write_ids(
    file: BinaryIO,
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    *,
    field: str,
    errors: Errors,
    on_progress: Progress,
) -> None:
    """Write the ids of all sources, one after the other, in bounded memory.

    After each document stands the tokenizer's end of text; where it has none, a line end between documents.
    Raises: UserInputError where a source cannot be read or there is no text in any; OSError of the disk.
    """
    total = sum(source.path.stat().st_size for source in sources)
    on_progress(0, total)
    if sources[0].kind == "tokens":
        chunks = _copied(sources)
    else:
        chunks = _encoded(_separated(sources, tokenizer, field, errors), tokenizer)
    written = done = 0
    for ids, read_bytes in chunks:
        file.write(ids.data)
        written += len(ids)
        done += read_bytes
        on_progress(min(done, total), total)
    if not written:
        raise UserInputError(
            f"{sources[0].path}: expected a text, got nothing but empty documents; give another"
        )
    on_progress(total, total)


def ids_dtype(sources: Sequence[Source], tokenizer: Tokenizer) -> np.dtype[np.unsignedinteger]:
    """The type in which `write_ids` writes."""
    if sources[0].kind != "tokens":
        return token_dtype(tokenizer.vocab_size)
    return max((map_ids(source.path).dtype for source in sources), key=lambda dtype: dtype.itemsize)


def _copied(sources: Sequence[Source]) -> Iterator[tuple[Ids, int]]:
    mapped = [map_ids(source.path) for source in sources]
    dtype = np.result_type(*mapped)
    for ids in mapped:
        for start in range(0, len(ids), _COPIED_IDS):
            chunk = ids[start : start + _COPIED_IDS]
            yield chunk.astype(dtype), chunk.nbytes


def _separated(
    sources: Sequence[Source], tokenizer: Tokenizer, field: str, errors: Errors
) -> Iterator[Piece]:
    """All pieces; one that ends a document with text in it says so only where an end of text is to follow."""
    has_end = tokenizer.end_of_text is not None
    is_empty = at_line_start = True  # of the document, and of all that was written
    for source in sources:
        for piece in read_pieces(source, field=field, errors=errors):
            text = piece.text
            if text and is_empty and not (has_end or at_line_start):
                text = "\n" + text
            if text:
                is_empty, at_line_start = False, text.endswith("\n")
            yield Piece(text, has_end and piece.ends_document and not is_empty, piece.read_bytes)
            is_empty = is_empty or piece.ends_document


def _encoded(pieces: Iterable[Piece], tokenizer: Tokenizer) -> Iterator[tuple[Ids, int]]:
    """(ids, bytes read for them), in batches that a library spreads over the processors."""
    batch: list[Piece] = []
    chars = 0
    for piece in pieces:
        batch.append(piece)
        chars += len(piece.text) + 64  # an empty piece is not free either
        if chars >= _BATCH_CHARS:
            yield _encode_batch(batch, tokenizer)
            batch, chars = [], 0
    if batch:
        yield _encode_batch(batch, tokenizer)


def _encode_batch(batch: Sequence[Piece], tokenizer: Tokenizer) -> tuple[Ids, int]:
    dtype = token_dtype(tokenizer.vocab_size)
    end = np.array([tokenizer.end_of_text or 0], dtype=dtype)
    parts: list[Ids] = []
    for piece, ids in zip(batch, tokenizer.encode_batch([piece.text for piece in batch]), strict=True):
        parts.append(ids)
        if piece.ends_document:
            parts.append(end)
    return np.concatenate(parts), sum(piece.read_bytes for piece in batch)


def sizes_and_times(sources: Sequence[Source]) -> list[tuple[str, int, int]]:
    """(absolute path, bytes, time of the last change in ns) of each: what tells that a file is another."""
    found = []
    for source in sources:
        try:
            info = source.path.stat()
        except OSError as error:
            raise unreadable(source.path, error) from error
        found.append((os.path.abspath(source.path), info.st_size, info.st_mtime_ns))
    return found
