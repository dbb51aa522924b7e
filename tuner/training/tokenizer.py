"""Texts as token ids and back: raw bytes, GPT-2's tokens, or a tokenizer of the user's own.

The `tokenizers` library is imported when a tokenizer needs it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..values.errors import UserInputError
from .documents import read_pieces
from .gpt2 import find_gpt2
from .sources import Source

if TYPE_CHECKING:
    import tokenizers

Ids = NDArray[np.unsignedinteger[Any]]

END_OF_TEXT = "<|endoftext|>"
SMALLEST_VOCABULARY = 257
"""All bytes and the end of text."""

_ENDS_OF_TEXT = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]")
_UNKNOWN = "�"


class Tokenizer(Protocol):
    """Texts as ids below `vocab_size` and back."""

    @property
    def name(self) -> str:
        """As given to `load_tokenizer`."""

    @property
    def vocab_size(self) -> int:
        """The largest id plus one."""

    @property
    def end_of_text(self) -> int | None:
        """The id that stands between documents; None where the vocabulary has none."""

    @property
    def keeps_bytes(self) -> bool:
        """Whether bytes that are no UTF-8, which Python holds as lone surrogates (PEP 383), have ids too."""

    def encode(self, text: str) -> Ids:
        """Ids of a text, [count] of `token_dtype(vocab_size)`; nothing is put before or after them."""

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """`encode` of each, on all processors where that helps."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, with those of special tokens; � for bytes that are no UTF-8."""

    def digest(self) -> str:
        """The same for tokenizers that give the same ids, wherever they were read from."""

    def to_json(self) -> str | None:
        """What `tokenizer_from_json` makes this tokenizer of again; None for bytes, which need nothing."""


@dataclass(frozen=True, slots=True)
class BytesTokenizer:
    """The bytes of a text in UTF-8."""

    name: str = "bytes"
    vocab_size: int = 256
    end_of_text: int | None = None
    keeps_bytes: bool = True

    def encode(self, text: str) -> Ids:
        try:
            raw = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raw = _well_formed(text).encode()
        return np.frombuffer(raw, dtype=np.uint8)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        # A model with a larger vocabulary may say ids that are no bytes.
        parts = (bytes((token,)) if token < 256 else _UNKNOWN.encode() for token in ids)
        return b"".join(parts).decode("utf-8", "replace")

    def digest(self) -> str:
        return "bytes"

    def to_json(self) -> str | None:
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class LibraryTokenizer:
    """A tokenizer of the `tokenizers` library. A special token that stands in a text is that token."""

    name: str
    vocab_size: int
    end_of_text: int | None
    json: str = field(repr=False)
    library: tokenizers.Tokenizer = field(repr=False, compare=False)
    keeps_bytes: bool = False

    def encode(self, text: str) -> Ids:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        clean = [_well_formed(text) for text in texts]
        encoded = self.library.encode_batch_fast(clean, add_special_tokens=False)
        dtype = token_dtype(self.vocab_size)
        return [np.array(each.ids, dtype=dtype) for each in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.library.decode([int(token) for token in ids], skip_special_tokens=False))

    def digest(self) -> str:
        content = json.loads(self.json)
        for key in ("truncation", "padding"):  # which are not used
            content.pop(key, None)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> str | None:
        return self.json


class DecodeStream:
    """The text of ids that come bit by bit: a character is told when its last byte is there."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._told = 0  # characters of the ids' text

    def feed(self, ids: Sequence[int]) -> str:
        """What more of the text is certain with these ids; often empty, never half a character."""
        self._ids += ids
        text = self._tokenizer.decode(self._ids)
        # A � at the end may be a character whose last bytes are still to come; one before it never changes.
        certain = len(text) - text.endswith(_UNKNOWN)
        told, self._told = text[self._told : certain], max(self._told, certain)
        if self._told == len(text) and len(self._ids) > 1:
            # The last id stays: some decoders drop a space at the beginning of a text.
            self._ids = self._ids[-1:]
            self._told = len(self._tokenizer.decode(self._ids))
        return told

    def finish(self) -> str:
        """What is still held back, with � for a character that never came to its end."""
        rest = self._tokenizer.decode(self._ids)[self._told :]
        self._ids, self._told = [], 0
        return rest


def decode_stream(tokenizer: Tokenizer) -> DecodeStream:
    """A stream at its beginning."""
    return DecodeStream(tokenizer)


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The smallest of uint8, uint16 and uint32 that holds all ids."""
    return np.dtype(np.uint8 if vocab_size <= 256 else np.uint16 if vocab_size <= 65536 else np.uint32)


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a name: `bytes`, `gpt2`, or the path of a JSON file of the tokenizers library.

    Raises: UserInputError where there is no such file, it holds no tokenizer, or GPT-2's are not at hand.
    """
    if name == "bytes":
        return BytesTokenizer()
    if name == "gpt2":
        return tokenizer_from_json(find_gpt2(), name=name)
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserInputError(
            f"--tokenizer: expected bytes, gpt2 or a tokenizer's JSON file, got {name!r}, which is no file; "
            "phase8-train tokenizer makes one of your text"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise UserInputError(f"--tokenizer {name}: cannot be read ({reason}); name another file") from error
    return tokenizer_from_json(text, name=name)


def tokenizer_from_json(text: str, *, name: str) -> Tokenizer:
    """The tokenizer that a JSON text of the tokenizers library holds.

    Raises: UserInputError, with the name, where it holds none.
    """
    library = import_tokenizers()
    try:
        loaded = library.Tokenizer.from_str(text)
    except Exception as error:  # the library raises this very class
        reason = " ".join(str(error).split())
        raise UserInputError(
            f"--tokenizer {name}: expected JSON of the tokenizers library, got something else ({reason}); "
            "phase8-train tokenizer makes one of your text"
        ) from error
    # A file made for another task may cut every text to 512 tokens.
    loaded.no_truncation()
    loaded.no_padding()
    vocabulary = loaded.get_vocab(with_added_tokens=True)
    if not vocabulary:
        raise UserInputError(
            f"--tokenizer {name}: expected a vocabulary, got an empty one; name another file"
        )
    end = next((vocabulary[token] for token in _ENDS_OF_TEXT if token in vocabulary), None)
    return LibraryTokenizer(
        name=name, vocab_size=max(vocabulary.values()) + 1, end_of_text=end, json=text, library=loaded
    )


def train_tokenizer(
    sources: Sequence[Source],
    vocab_size: int,
    on_progress: Callable[[int, int], None],
    *,
    field: str = "text",
    force: bool = False,
) -> str:
    """A byte-level byte-pair encoding of the sources' texts, as JSON; the same for the same texts.

    `<|endoftext|>` is id 0 and the bytes follow; words are split as GPT-2's are. The texts are read piece by
    piece, so that only their different words are in memory. A text with too few different words gives fewer
    tokens than vocab_size. on_progress: bytes read, bytes in all; the merges are found after the last.

    Raises: UserInputError for a vocabulary of less than SMALLEST_VOCABULARY, or what cannot be read.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise UserInputError(
            f"--vocab-size: expected at least {SMALLEST_VOCABULARY} (256 bytes and {END_OF_TEXT}), "
            f"got {vocab_size}; raise it"
        )
    library = import_tokenizers()
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = library.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_texts(sources, field, force, on_progress), trainer=trainer)
    return str(tokenizer.to_str(pretty=False))


def import_tokenizers() -> ModuleType:
    """The tokenizers library. Raises: UserInputError where it is not installed."""
    # Set by hand, it says nothing when this process is forked later, by a compiler's or a loader's workers.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        import tokenizers
    except ImportError as error:
        raise UserInputError(
            f"--tokenizer: the tokenizers library cannot be used ({error}); install it "
            "(pip install tokenizers) or use bytes"
        ) from error
    return tokenizers


def _texts(
    sources: Sequence[Source], field: str, force: bool, on_progress: Callable[[int, int], None]
) -> Iterator[list[str]]:
    """All pieces of the sources, without the ends of text that stand in them."""
    done, total = 0, sum(source.path.stat().st_size for source in sources)
    on_progress(0, total)
    for source in sources:
        for piece in read_pieces(source, field=field, errors="replace" if force else "strict"):
            yield _well_formed(piece.text).split(END_OF_TEXT)
            done += piece.read_bytes
            on_progress(min(done, total), total)


def _well_formed(text: str) -> str:
    """The text with � for every surrogate without its other half, which no encoding can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
