"""GPT-2's tokenizer from files that are on this computer; nothing is fetched."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..machine.cache_folder import cache_folder
from ..values.errors import UserInputError

VOCAB_SIZE = 50257
_END_OF_TEXT = "<|endoftext|>"
_MERGES = VOCAB_SIZE - 256 - 1
# The names under which tiktoken keeps encoder.json and vocab.bpe: SHA-1 of the addresses they come from.
_TIKTOKEN_NAMES = ("6c7ea1a7e38e3a7f062df639a5b80947f075ffe6", "6d1cbeee0f20b3d9449abfede4726ed8212e3aee")


def find_gpt2() -> str:
    """GPT-2's byte-pair encoding as JSON of the tokenizers library, the same text whichever files it is from.

    Looked for in the folder `gpt2` of this project's cache, then in the Hugging Face hub's and tiktoken's.
    Raises: UserInputError where no whole set of files is there: it says what to put where.
    """
    for files in _places():
        if all(file.is_file() for file in files):
            vocab, merges = _read(files)
            if len(vocab) != VOCAB_SIZE or len(merges) != _MERGES:
                raise UserInputError(
                    f"{files[0]}: expected GPT-2's {VOCAB_SIZE:,} tokens and {_MERGES:,} merges, got "
                    f"{len(vocab):,} and {len(merges):,}; replace it"
                )
            return _to_json(vocab, merges)
    raise UserInputError(
        "--tokenizer gpt2: its files are not on this computer; put GPT-2's vocab.json and merges.txt into "
        f"{cache_folder() / 'gpt2'}, or use bytes, or a tokenizer of your own text (phase8-train tokenizer)"
    )


def _places() -> Iterator[tuple[Path, ...]]:
    """Sets of files that hold the tokenizer together, the vocabulary first."""
    hub = Path(os.environ.get("HF_HUB_CACHE") or _hugging_face_home() / "hub")
    folders = [cache_folder() / "gpt2"]
    for name in ("models--openai-community--gpt2", "models--gpt2"):
        folders += sorted((hub / name / "snapshots").glob("*"))
    for folder in folders:
        yield folder / "vocab.json", folder / "merges.txt"
        yield folder / "encoder.json", folder / "vocab.bpe"
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if os.environ.get(variable):
            yield tuple(Path(os.environ[variable], name) for name in _TIKTOKEN_NAMES)
    yield tuple(Path(tempfile.gettempdir(), "data-gym-cache", name) for name in _TIKTOKEN_NAMES)


def _hugging_face_home() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    home = (Path(base) if base else Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HOME") or home)


def _read(files: tuple[Path, ...]) -> tuple[dict[str, int], list[str]]:
    """(vocabulary, merges); empty where a file holds something else."""
    try:
        vocab = json.loads(files[0].read_text(encoding="utf-8"))
        lines = files[1].read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UserInputError(
            f"{files[0].parent}: GPT-2's tokenizer there cannot be read ({error}); replace the files"
        ) from error
    merges = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
    return (vocab if isinstance(vocab, dict) else {}), merges


def _to_json(vocab: dict[str, int], merges: list[str]) -> str:
    byte_level: dict[str, Any] = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    content: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": VOCAB_SIZE - 1,
                "content": _END_OF_TEXT,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "add_prefix_space": False},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": merges,
        },
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
