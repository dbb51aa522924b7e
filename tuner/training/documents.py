"""The texts of a file, piece by piece in bounded memory, cut where a tokenizer would cut anyway."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from ..values.errors import UserInputError
from .sources import Source, not_utf8, unreadable

Errors = Literal["strict", "replace", "surrogateescape"]
"""What becomes of bytes that are no UTF-8: refused, made �, or kept as lone surrogates (PEP 383)."""

_BLOCK_BYTES = 64 * 1024
_LONGEST_PIECE = 1024 * 1024  # characters without one place to cut at, as in a base64 text
_LONGEST_LINE_BYTES = 256 * 1024 * 1024
_SHOWN_FIELDS = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document.

    read_bytes: of the file, since the piece before; ends_document: whether the document ends with it.
    """

    text: str
    ends_document: bool
    read_bytes: int


def read_pieces(source: Source, *, field: str = "text", errors: Errors = "strict") -> Iterator[Piece]:
    """The documents of a text or JSON Lines file in pieces of at most about 1 Mi characters.

    A text is one document, without its byte-order mark; line ends are kept as they are. Of JSON Lines each
    line is one, from `field`; blank lines are left out. A text is cut before a space or after a line end that
    has none beside it: there the patterns of GPT-2 and its successors start a new word, so that the tokens of
    the pieces are those of the whole text.

    Raises: UserInputError where the file cannot be read, is not UTF-8 (with errors="strict"), or where a line
    has no such text.
    """
    if source.kind == "tokens":
        raise UserInputError(
            f"{source.path}: expected a text, got a token file; name the text it was made of"
        )
    read = _read_lines if source.kind == "jsonl" else _read_text
    try:
        with source.path.open("rb") as file:
            yield from read(source, file, field, errors)
    except OSError as error:
        raise unreadable(source.path, error) from error


def cut_place(text: str) -> int:
    """The last place where a new word starts whatever follows; 0 where there is none."""
    return max(_last_boundary(text, " ", 0), _last_boundary(text, "\n", 1))


def _last_boundary(text: str, space: str, after: int) -> int:
    at = text.rfind(space)
    while at > 0:
        if at + 1 < len(text) and not text[at - 1].isspace() and not text[at + 1].isspace():
            return at + after
        at = text.rfind(space, 0, at)
    return 0


def _read_text(source: Source, file: BinaryIO, field: str, errors: Errors) -> Iterator[Piece]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    rest, begun_bytes, unsaid_bytes = "", 0, 0
    while True:
        block = file.read(_BLOCK_BYTES)
        pending = decoder.getstate()[0]
        text = block[3:] if not begun_bytes and block.startswith(codecs.BOM_UTF8) else block
        try:
            rest += decoder.decode(text, final=not block)
        except UnicodeDecodeError as error:
            seen = pending + text
            offset = begun_bytes + len(block) - len(seen) + error.start
            raise not_utf8(source.path, offset, seen, seen[error.start]) from None
        begun_bytes += len(block)
        unsaid_bytes += len(block)
        if not block:
            yield Piece(rest, True, unsaid_bytes)
            return
        cut = cut_place(rest)
        if not cut and len(rest) >= _LONGEST_PIECE:
            cut = len(rest)
        if cut:
            yield Piece(rest[:cut], False, unsaid_bytes)
            rest, unsaid_bytes = rest[cut:], 0


def _read_lines(source: Source, file: BinaryIO, field: str, errors: Errors) -> Iterator[Piece]:
    number, offset, blank_bytes = 0, 0, 0
    while line := file.readline(_LONGEST_LINE_BYTES):
        number += 1
        if len(line) == _LONGEST_LINE_BYTES and not line.endswith(b"\n"):
            raise UserInputError(
                f"{source.path}, line {number}: expected a JSON object a line, got a line of over "
                f"{_LONGEST_LINE_BYTES // 2**20} MB; write it as JSON Lines"
            )
        if line.strip():
            try:
                text = (line[3:] if not offset and line.startswith(codecs.BOM_UTF8) else line).decode(
                    "utf-8", errors
                )
            except UnicodeDecodeError as error:
                raise not_utf8(source.path, offset + error.start, line, line[error.start]) from None
            *parts, last = _split(_text_of(source, number, text, field))
            yield from (Piece(part, False, 0) for part in parts)
            yield Piece(last, True, len(line) + blank_bytes)
            blank_bytes = 0
        else:
            blank_bytes += len(line)
        offset += len(line)


def _split(text: str) -> list[str]:
    """A document in pieces, as that of a text file is read."""
    parts = []
    while len(text) > _LONGEST_PIECE:
        cut = cut_place(text[:_LONGEST_PIECE]) or _LONGEST_PIECE
        parts.append(text[:cut])
        text = text[cut:]
    return [*parts, text]


def _text_of(source: Source, number: int, line: str, field: str) -> str:
    """The document of one line."""
    where = f"{source.path}, line {number}"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserInputError(
            f"{where}: expected a JSON object, got no JSON ({what}); correct the line"
        ) from None
    if not isinstance(record, dict):
        raise UserInputError(
            f"{where}: expected a JSON object with the field {field!r}, got {_json_kind(record)}; "
            "correct the line"
        )
    if field not in record:
        names = ", ".join(repr(name) for name in list(record)[:_SHOWN_FIELDS]) or "no field"
        more = ", …" if len(record) > _SHOWN_FIELDS else ""
        raise UserInputError(
            f"{where}: expected a text in the field {field!r}, got {names}{more}; name the right one "
            "with --field"
        )
    text = record[field]
    if not isinstance(text, str):
        raise UserInputError(
            f"{where}: expected a text in the field {field!r}, got {_json_kind(text)}; "
            "correct the line, or name another field with --field"
        )
    return text


def _json_kind(value: object) -> str:
    """What JSON calls a value, with its article."""
    if value is None:
        return "null"
    names = {bool: "a truth value", int: "a number", float: "a number", str: "a text", list: "an array"}
    return names.get(type(value), "an object")
