"""GPT-2's tokenizer, from wherever its files are kept; nothing is fetched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from phase8_tune.tuner.training.gpt2 import find_gpt2
from phase8_tune.tuner.training.tokenizer import load_tokenizer
from phase8_tune.tuner.values.errors import UserInputError


@pytest.fixture
def no_gpt2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer without GPT-2's files: all places that are looked at are in this folder."""
    for variable in ("HF_HUB_CACHE", "HF_HOME", "TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PHASE8_TUNE_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path


def write_gpt2(vocab_file: Path, merges_file: Path, merges: int = 50_000) -> None:
    """Files with as many tokens as GPT-2's, in another order of merges."""
    alphabet = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    pairs = [(a, b) for a in alphabet for b in alphabet][:merges]
    tokens = [*alphabet, *(a + b for a, b in pairs), "<|endoftext|>"]
    vocab_file.write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    merges_file.write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs), encoding="utf-8")


def test_gpt2_is_found_where_others_keep_it(tmp_path: Path, no_gpt2: Path) -> None:
    with pytest.raises(UserInputError) as caught:
        load_tokenizer("gpt2")
    assert f"put GPT-2's vocab.json and merges.txt into {no_gpt2 / 'ours' / 'gpt2'}" in str(caught.value)
    address = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
    names = [hashlib.sha1((address + name).encode()).hexdigest() for name in ("encoder.json", "vocab.bpe")]
    hub = no_gpt2 / ".cache" / "huggingface" / "hub" / "models--gpt2" / "snapshots" / "abc"
    texts = set()
    now = [tmp_path / "vocab.json", tmp_path / "merges.txt"]
    write_gpt2(now[0], now[1])
    for folder, files in (
        (no_gpt2 / "temporary" / "data-gym-cache", names),
        (hub, ["vocab.json", "merges.txt"]),
        (no_gpt2 / "ours" / "gpt2", ["encoder.json", "vocab.bpe"]),
    ):
        folder.mkdir(parents=True)
        now = [file.rename(folder / name) for file, name in zip(now, files, strict=True)]
        texts.add(find_gpt2())
    assert len(texts) == 1
    tokenizer = load_tokenizer("gpt2")
    assert tokenizer.to_json() in texts
    assert (tokenizer.vocab_size, tokenizer.end_of_text) == (50257, 50256)
    text = "two  words, 日本\n"
    assert tokenizer.decode(tokenizer.encode(text).tolist()) == text
    write_gpt2(now[0], now[1], merges=10)
    with pytest.raises(UserInputError, match="got 267 and 10; replace it"):
        load_tokenizer("gpt2")
    now[0].write_text("no JSON")
    with pytest.raises(UserInputError, match="cannot be read"):
        load_tokenizer("gpt2")
