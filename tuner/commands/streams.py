"""Standard output and error that cannot cost a result: other encodings, full disks, lost readers."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, TextIO

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
        "░": ".",
        "°": "",
        **dict.fromkeys("▏▎▍▌▋▊▉█", "#"),
    }
)


_BYTES = "\udc80", "\udcff"  # how Python holds what of a path is no text in its encoding


def plain(text: str, encoding: str) -> str:
    """A text in signs that an encoding has: `8×512` is `8x512` in ASCII; what has no such form is `?`."""
    simple = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(
        sign if _BYTES[0] <= sign <= _BYTES[1] else sign.encode(encoding, errors="replace").decode(encoding)
        for sign in simple
        if not unicodedata.combining(sign)  # the dots of ö
    )


OnLoss = Callable[[OSError], None]


def _leave_out(loss: OSError) -> None:
    pass


class GuardedStream:
    """A text stream that takes every text, in plain signs where its encoding lacks them.

    What cannot be written is left out; `loss` says why, None where nothing was. on_loss: called with it when
    it is noticed, and at every call from then on: it may raise, but click tries a stream with an empty text,
    and ignores what comes of it.
    """

    def __init__(self, stream: TextIO, on_loss: OnLoss = _leave_out) -> None:
        self._stream, self._on_loss = stream, on_loss
        self.loss: OSError | None = None

    @property
    def encoding(self) -> str:
        """Every text is taken, so that nobody else need look for plain signs."""
        return "utf-8"

    def write(self, text: str) -> int:
        self._guard(lambda: self._write(text))
        return len(text)

    def flush(self) -> None:
        self._guard(self._stream.flush)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._stream.write(plain(text, self._stream.encoding))

    def _guard(self, call: Callable[[], None]) -> None:
        if self.loss is None:
            try:
                call()
                return
            except OSError as error:
                self.loss = error
                _discard(self._stream)  # or the interpreter fails once more when it ends
        self._on_loss(self.loss)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard(stream: TextIO) -> None:
    """What is written from now on, and what its buffer still holds, goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


@contextlib.contextmanager
def guarded_streams(on_loss: OnLoss = _leave_out) -> Iterator[GuardedStream]:
    """Standard output, which is given, and error guarded while the block runs; closed ones lead nowhere.

    on_loss: of standard output; for both see `GuardedStream`.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would be taken for a standard stream
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.ExitStack() as restored:
        for stream in before:
            if isinstance(stream, io.TextIOWrapper):
                restored.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors="surrogateescape")  # a path is printed with the bytes it has
        # A stream that was closed when Python began is None there, which `print` takes for standard output.
        output = GuardedStream(before[0] or nowhere, on_loss)
        sys.stdout, sys.stderr = output, GuardedStream(before[1] or nowhere)
        try:
            yield output
        finally:
            sys.stdout, sys.stderr = before
