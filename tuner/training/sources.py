"""The files to train on: found by file, folder or pattern, and looked at before anything costs time."""

from __future__ import annotations

import codecs
import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..values.errors import UserInputError
from .file_kinds import guess_narrow_encoding, has_control_bytes, name_binary, name_wide_encoding

Kind = Literal["text", "jsonl", "tokens"]

TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst")
"""What a folder is searched for as text; a file that is named or that a pattern matches may end otherwise."""
JSONL_SUFFIXES = (".jsonl", ".ndjson")
TOKEN_SUFFIXES = (".bin",)

_GO_ON = "or go on with --force"
_HEAD_BYTES = 64 * 1024
_LATER_BYTES = 16 * 1024
_LATER_PLACES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One file to train on.

    kind: "text", one document in UTF-8; "jsonl", a JSON object a line, each with one document in a field;
    "tokens", bare token ids of 16 or 32 bits without a header.
    """

    path: Path
    kind: Kind


def find_sources(data: Sequence[str]) -> tuple[Source, ...]:
    """The files that `--data` names, each once, in the order given and by name within a folder or pattern.

    An item is a file, a folder or a pattern (`*`, `?`, `[…]`, and `**` for any folders). A folder is searched
    with its folders for TEXT_SUFFIXES, JSONL_SUFFIXES and TOKEN_SUFFIXES (not `.json`, which as a rule holds
    settings), hidden ones left out. A file that is named is taken whatever its name: as JSON Lines or token
    ids by its suffix, else as text. Empty files are left out of folders and patterns.

    Raises: UserInputError where an item leads to no file, to an empty or an unreadable one, or where the
    files are token ids beside texts.
    """
    found: dict[str, Source] = {}
    for item in data:
        for path in _expand(item):
            found.setdefault(os.path.realpath(path), Source(path=path, kind=_kind(path)))
    sources = tuple(found.values())
    if not sources:
        raise UserInputError("--data: expected a text file, a folder or a pattern, got none; name one")
    tokens = next((source for source in sources if source.kind == "tokens"), None)
    texts = next((source for source in sources if source.kind != "tokens"), None)
    if tokens and texts:
        raise UserInputError(
            f"--data: expected texts or token files, got both ({texts.path} and {tokens.path}); "
            "name the files of one kind"
        )
    return sources


def check_text(source: Source, *, force: bool) -> None:
    """Look at a file's beginning and some later places, 112 KiB at most, and refuse what is no UTF-8 text.

    force: take whatever the bytes are; the file must still be readable.
    Raises: UserInputError that says what the file looks like, or where the first bad byte is (of those seen).
    """
    if source.kind == "tokens":
        _check_tokens(source, force=force)
        return
    for offset, window, is_last in _windows(source.path):
        if not force:
            _check_window(source.path, offset, window, is_last=is_last)


def unreadable(path: Path, error: OSError) -> UserInputError:
    """The error for a file that the system does not let us read."""
    return UserInputError(
        f"{path}: cannot be read ({error.strerror or error}); give --data files you may read"
    )


def not_utf8(path: Path, offset: int, sample: bytes, byte: int) -> UserInputError:
    """The error for a text with a byte that is no UTF-8.

    offset: in bytes from the file's beginning; sample: what stands around, to guess the encoding by.
    """
    guess = guess_narrow_encoding(sample)
    source = guess if " " not in guess else "ENCODING"
    return UserInputError(
        f"{path}: expected UTF-8, got the byte 0x{byte:02x} at offset {offset:,}; it may be {guess}: "
        f"convert it (iconv -f {source} -t UTF-8), {_GO_ON}"
    )


def _kind(path: Path) -> Kind:
    suffix = path.suffix.lower()
    if suffix in JSONL_SUFFIXES:
        return "jsonl"
    return "tokens" if suffix in TOKEN_SUFFIXES else "text"


def _expand(item: str) -> list[Path]:
    """The files of one `--data`."""
    path = Path(item).expanduser()
    try:
        mode = os.stat(path if item else "").st_mode
    except (FileNotFoundError, NotADirectoryError):
        if glob.has_magic(item):
            return _matches(item, str(path))
        raise UserInputError(
            f"--data: expected a file, a folder or a quoted pattern, got {item!r}, which is not there"
        ) from None
    except OSError as error:
        raise unreadable(path, error) from error
    if stat.S_ISDIR(mode):
        return _in_folder(path)
    if not _is_filled(path):
        raise UserInputError(f"{path}: expected a text, got an empty file; give --data one with text in it")
    return [path]


def _matches(item: str, pattern: str) -> list[Path]:
    """The files that a pattern matches; a matched folder is searched, unless `**` went into it already."""
    files = []
    matched = sorted(glob.glob(pattern, recursive=True))
    for path in map(Path, matched):
        if not path.is_dir():
            files += [path] if _is_filled(path) else []
        elif "**" not in pattern:
            files += _in_folder(path, may_be_empty=True)
    if not files:
        got = "none" if not matched else f"{len(matched)} without text"
        raise UserInputError(f"--data {item!r}: expected files that match, got {got}; correct the pattern")
    return files


def _in_folder(folder: Path, *, may_be_empty: bool = False) -> list[Path]:
    """The text-like files below a folder, by path; links to folders are followed, once each."""

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename or folder), error) from error

    suffixes = (*TEXT_SUFFIXES, *JSONL_SUFFIXES, *TOKEN_SUFFIXES)
    files, others, entered = [], 0, set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        # A link that leads back up would be walked for ever.
        folders[:] = [] if real in entered else sorted(name for name in folders if not name.startswith("."))
        if real in entered:
            continue
        entered.add(real)
        for name in names:
            if name.startswith("."):
                continue
            if name.lower().endswith(suffixes) and _is_filled(Path(place, name)):
                files.append(Path(place, name))
            else:
                others += 1
    if not files and not may_be_empty:
        raise UserInputError(
            f"{folder}: expected files that end in {', '.join(suffixes)} and hold text, found none "
            f"(among {others} files); name the files, or give a quoted pattern such as '{folder}/**/*.py'"
        )
    return sorted(files)


def _is_filled(path: Path) -> bool:
    """Whether a file holds anything. Raises: UserInputError where it is no file or may not be read."""
    try:
        info = os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(info.st_mode):
        raise UserInputError(f"{path}: expected a file, got a pipe or device; write its text to a file first")
    if not os.access(path, os.R_OK):
        raise UserInputError(f"{path}: cannot be read (Permission denied); give --data files you may read")
    return info.st_size > 0


def _windows(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """(offset, bytes, whether the file ends with them) of the head and of places spread over the rest."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD_BYTES)
            yield 0, head, len(head) >= size
            for place in range(1, _LATER_PLACES + 1):
                offset = max((size - _LATER_BYTES) * place // _LATER_PLACES, len(head))
                if offset >= size:
                    return
                file.seek(offset)
                window = file.read(_LATER_BYTES)
                # The window may begin inside a character; no character has more than three such bytes.
                inside = next((i for i in range(min(4, len(window))) if window[i] & 0xC0 != 0x80), 0)
                yield offset + inside, window[inside:], offset + len(window) >= size
    except OSError as error:
        raise unreadable(path, error) from error


def _check_window(path: Path, offset: int, window: bytes, *, is_last: bool) -> None:
    """Refuse bytes that are no UTF-8 text."""
    if offset == 0:
        _refuse_known(path, window, "text")
        wide = name_wide_encoding(window)
        if wide is not None:
            raise UserInputError(
                f"{path}: expected UTF-8, got what looks like {wide}; convert it (iconv -f {wide} -t UTF-8), "
                f"{_GO_ON}"
            )
    zero = window.find(0)
    if zero >= 0:
        raise UserInputError(
            f"{path}: looks like binary data, not text (a zero byte at offset {offset + zero:,}); "
            f"give a text file, {_GO_ON}"
        )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(window, final=is_last)
    except UnicodeDecodeError as error:
        if has_control_bytes(window):
            raise UserInputError(
                f"{path}: looks like binary data, not text; give a text file, {_GO_ON}"
            ) from None
        raise not_utf8(path, offset + error.start, window, window[error.start]) from None


def _refuse_known(path: Path, head: bytes, wanted: str) -> None:
    kind = name_binary(head)
    if kind is None:
        return
    instead = "unpack it first" if "archive" in kind else f"give a {wanted} file"
    raise UserInputError(f"{path}: looks like {kind}, not {wanted}; {instead}, {_GO_ON}")


def _check_tokens(source: Source, *, force: bool) -> None:
    """Refuse a token file that cannot be one, or that looks like another kind of file."""
    path = source.path
    (_, head, is_last), *_rest = _windows(path)
    if path.stat().st_size % 2:
        raise UserInputError(
            f"{path}: expected token ids of 16 or 32 bits, got an odd number of bytes; write it again "
            "(ids.astype('uint16').tofile(…)), or rename a text to .txt"
        )
    if force:
        return
    _refuse_known(path, head, "token")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=is_last)
    except UnicodeDecodeError:
        return
    # Ids of two bytes are UTF-8 by chance only in a file of some bytes, and those below 256 have zero bytes.
    if len(head) >= 64 and 0 not in head and not has_control_bytes(head):
        raise UserInputError(f"{path}: looks like text, not token ids; rename it to .txt, {_GO_ON}")
