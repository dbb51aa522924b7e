"""Standard output and error that cannot cost a result: other encodings, full disks, lost readers."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO

from ..values.errors import OutputLostError

_PLAIN = str.maketrans(
    {
        "×": "x",
        "±": "+/-",
        "–": "-",
        "−": "-",
        "…": "...",
        "·": "|",
        "✓": "ok",
        "→": "->",
        "≥": ">=",
        "≤": "<=",
        **dict.fromkeys("▏▎▍▌▋▊▉█", "#"),
    }
)


def plain(text: str, encoding: str) -> str:
    """A text in signs that an encoding has: `8×512` is `8x512` in ASCII; what has no such form is `?`."""
    simple = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return simple.encode(encoding, errors="replace").decode(encoding)


class GuardedStream:
    """A text stream that takes every text, in plain signs where its encoding lacks them.

    is_result: a stream whose loss the user must hear of; of another one what cannot be written is left out.
    Raises: OutputLostError where a result cannot be written; BrokenPipeError where nobody reads it.
    """

    def __init__(self, stream: TextIO, *, is_result: bool) -> None:
        self._stream, self._is_result = stream, is_result

    @property
    def encoding(self) -> str:
        """Every text is taken, so that nobody else need look for plain signs."""
        return "utf-8"

    def write(self, text: str) -> int:
        with self._guarded():
            try:
                return self._stream.write(text)
            except UnicodeEncodeError:
                return self._stream.write(plain(text, self._stream.encoding))
        return len(text)

    def flush(self) -> None:
        with self._guarded():
            self._stream.flush()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _discard(self._stream)  # or the interpreter fails once more when it ends
            if not self._is_result:
                return
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputLostError(
                f"standard output: expected room for what this command prints, got: {error.strerror}; "
                "make room or send it elsewhere, and run it again"
            ) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard(stream: TextIO) -> None:
    """What is written from now on, and what its buffer still holds, goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Standard output and error guarded while the block runs; closed ones lead nowhere."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would be taken for a standard stream
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    # A closed stream is None, and print and click.echo leave it alone.
    if sys.stdout is not None:
        sys.stdout = GuardedStream(before[0], is_result=True)
    if sys.stderr is not None:
        sys.stderr = GuardedStream(before[1], is_result=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
