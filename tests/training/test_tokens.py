"""Tokens: made once in bounded memory, kept under what they were made of, split and checked."""

from __future__ import annotations

import errno
import os
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.phase8.config import preset
from phase8_tune.tuner.training import token_files
from phase8_tune.tuner.training.sources import Source
from phase8_tune.tuner.training.tokenizer import Ids
from phase8_tune.tuner.training.tokens import (
    Tokens,
    check_vocabulary,
    open_tokens,
    split,
    unigram_entropy,
)
from phase8_tune.tuner.values.errors import UserInputError

from .corpora import BYTES, make_text, opened, trained_tokenizer, write_lines, write_text


def tokens_of(array: Ids) -> Tokens:
    return Tokens(array=array, digest="", source="corpus.txt")


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch):
    """After it is called, reading a source is an error."""

    def forbid() -> None:
        monkeypatch.setattr(token_files, "read_pieces", None)

    return forbid


def test_the_bytes_of_a_text_are_its_tokens(tmp_path: Path) -> None:
    source = write_text(tmp_path / "a.txt", make_text(1000))
    tokens = opened(source, tmp_path / "cache")
    assert tokens.array.tobytes() == source.path.read_bytes()
    assert tokens.array.dtype == np.uint8
    assert (tokens.source, tokens.note) == (str(source.path), None)
    assert isinstance(tokens.array, np.memmap)
    assert not tokens.array.flags.writeable


def test_a_second_opening_reads_nothing(tmp_path: Path, no_reading) -> None:
    source = write_text(tmp_path / "a.txt", make_text(1000))
    first = opened(source, tmp_path / "cache", trained_tokenizer())
    no_reading()
    told: list[tuple[int, int]] = []
    second = open_tokens(
        [source],
        trained_tokenizer(),
        cache=tmp_path / "cache",
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert second.array.tolist() == first.array.tolist()
    assert (second.digest, told) == (first.digest, [])
    with pytest.raises(TypeError):  # another tokenizer's are made
        opened(source, tmp_path / "cache", BYTES)


def test_a_changed_file_is_read_again_and_what_was_made_before_removed(tmp_path: Path) -> None:
    source = write_text(tmp_path / "a.txt", make_text(1000))
    other = write_text(tmp_path / "b.txt", make_text(10))
    first = opened(source, tmp_path / "cache")
    opened(other, tmp_path / "cache")
    (dead, living) = (tmp_path / "cache" / "tokens" / f".{name}.tmp" for name in ("dead", "living"))
    for draft in (dead, living):
        draft.touch()
    os.utime(dead, (0, 0))
    source.path.write_bytes(source.path.read_bytes().upper())
    os.utime(source.path, ns=(1, 1))
    second = opened(source, tmp_path / "cache")
    assert second.array.tobytes() == source.path.read_bytes()
    assert second.digest != first.digest
    assert len(list((tmp_path / "cache" / "tokens").glob("*-*"))) == 2
    assert (dead.exists(), living.exists()) == (False, True)
    assert len(first.array) == len(second.array)  # what is still mapped stays


def test_documents_are_separated(tmp_path: Path) -> None:
    lines = write_lines(
        tmp_path / "a.jsonl", [{"text": "one"}, {"text": ""}, {"text": "two\n"}, {"text": "three"}]
    )
    text = write_text(tmp_path / "b.txt", "four")
    cache = tmp_path / "cache"
    assert opened([lines, text], cache).array.tobytes() == b"one\ntwo\nthree\nfour"
    tokens = opened([lines, text], cache, trained_tokenizer())
    end = "<|endoftext|>"
    assert trained_tokenizer().decode(tokens.array.tolist()) == f"one{end}two\n{end}three{end}four{end}"
    assert tokens.source == f"2 files in {tmp_path}"


def test_pieces_and_batches_change_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phase8_tune.tuner.training.documents._BLOCK_BYTES", 100)
    monkeypatch.setattr(token_files, "_BATCH_CHARS", 700)
    text, tokenizer = make_text(3000), trained_tokenizer()
    source = write_text(tmp_path / "a.txt", text)
    seen: list[tuple[int, int]] = []
    tokens = open_tokens(
        [source], tokenizer, cache=None, on_progress=lambda done, total: seen.append((done, total))
    )
    assert tokens.array.dtype == np.uint16
    assert tokens.array.tolist() == [*tokenizer.encode(text).tolist(), tokenizer.end_of_text]
    size = source.path.stat().st_size
    assert (seen[0], seen[-1]) == ((0, size), (size, size))
    assert seen == sorted(seen)
    assert len(seen) > 20


def test_twenty_megabytes_are_read_in_a_few(tmp_path: Path) -> None:
    block = make_text(2000).encode()
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        for _ in range(20 * 2**20 // len(block) + 1):
            file.write(block)
    tracemalloc.start()
    try:
        tokens = opened(Source(path=path, kind="text"), tmp_path / "cache")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(tokens.array) == path.stat().st_size > 20 * 2**20
    assert tokens.array[-len(block) :].tobytes() == block
    assert peak_bytes < 14 * 2**20  # 1 Mi characters as text and as ids, and 4 MiB of what is hashed


def test_forced_bytes_are_kept_where_they_have_ids(tmp_path: Path) -> None:
    source = Source(path=tmp_path / "a.txt", kind="text")
    source.path.write_bytes(b"\x00w\xe4rds\xff")
    with pytest.raises(UserInputError, match="0xe4 at offset 2"):
        opened(source, tmp_path / "cache")
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []
    assert opened(source, tmp_path / "cache", force=True).array.tobytes() == source.path.read_bytes()
    ids = opened(source, tmp_path / "cache", trained_tokenizer(), force=True).array
    assert trained_tokenizer().decode(ids.tolist()) == "\0w�rds�<|endoftext|>"


def test_documents_without_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="nothing but empty documents"):
        opened(write_lines(tmp_path / "a.jsonl", [{"text": ""}]), tmp_path / "cache", trained_tokenizer())
    with pytest.raises(UserInputError, match="line 2: expected a text in the field 'body'"):
        opened(
            write_lines(tmp_path / "a.jsonl", [{"body": "x"}, {"text": "x"}]),
            tmp_path / "cache",
            field="body",
        )
    with pytest.raises(UserInputError, match=r"gone\.txt: cannot be read"):
        opened(Source(path=tmp_path / "gone.txt", kind="text"), tmp_path / "cache")


@pytest.mark.parametrize("cache", [None, "a file"])
def test_without_a_cache_the_tokens_are_in_a_nameless_file(
    tmp_path: Path, cache: str | None, monkeypatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "a file").touch()
    source = write_text(tmp_path / "a.txt", make_text(100))
    tokens = opened(source, None if cache is None else tmp_path / cache)
    assert tokens.array.tobytes() == source.path.read_bytes()
    assert tokens.note is not None
    assert tokens.note.endswith(
        "made anew next time" if cache is None else "set PHASE8_TUNE_CACHE to another"
    )
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("cache", [None, "cache"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, cache: str | None, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = write_text(tmp_path / "a.txt", make_text(50_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserInputError) as caught:
            opened(source, None if cache is None else tmp_path / cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"expected room for the tokens, got: {os.strerror(errno.EFBIG)}; make room" in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [source.path]


def test_a_text_that_grows_meanwhile_is_not_kept(tmp_path: Path) -> None:
    source = write_text(tmp_path / "a.txt", make_text(100))

    def write(done: int, total: int) -> None:
        if done == total:
            source.path.write_text("other")

    with pytest.raises(UserInputError, match="changed while it was read; run it again"):
        open_tokens([source], BYTES, cache=tmp_path / "cache", on_progress=write)
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


@given(count=st.integers(0, 3000), n_seq=st.integers(1, 700), held_out=st.sampled_from([0.0, 0.05, 0.5]))
def test_a_split_gives_each_part_a_window(count: int, n_seq: int, held_out: float) -> None:
    tokens = tokens_of(np.arange(count, dtype=np.uint32))
    if count - max(int(count * held_out), n_seq + 1) > n_seq:
        training, tail = split(tokens, n_seq, held_out)
        assert min(len(training), len(tail)) >= n_seq + 1
        assert [*training, *tail] == list(range(count))
        return
    with pytest.raises(UserInputError) as caught:
        split(tokens, n_seq, held_out)
    message, _, possible = str(caught.value).partition("settings with n_seq: ")
    assert f"expected at least {2 * (n_seq + 1):,} tokens for n_seq={n_seq}" in message
    assert f"got {count:,};" in message
    assert bool(possible) == (count >= 4)
    if possible:
        assert int(possible.split()[0]) < n_seq
        split(tokens, int(possible.split()[0]), held_out)


def test_the_entropy_of_frequencies() -> None:
    assert unigram_entropy(np.arange(1000, dtype=np.uint16).repeat(3)) == pytest.approx(np.log(1000))
    assert unigram_entropy(np.zeros(9, dtype=np.uint8)) == 0.0
    assert unigram_entropy(np.array([], dtype=np.uint8)) == 0.0
    assert unigram_entropy(np.array([0, 2**32 - 1], dtype=np.uint32)) == pytest.approx(np.log(2))
    large = np.random.default_rng(0).integers(0, 256, 5_000_000).astype(np.uint8)
    assert unigram_entropy(large) == pytest.approx(np.log(256), abs=1e-3)


def test_tokens_beyond_the_model_are_refused() -> None:
    array = np.array([1, 400, 3], dtype=np.uint16)
    with pytest.raises(UserInputError) as caught:
        check_vocabulary(array, trained_tokenizer(), 400)
    assert "expected tokens below vocab_size=400, got 400; put `vocab_size: 401`" in str(caught.value)
    with pytest.raises(UserInputError, match="`vocab_size: 320`"):
        check_vocabulary(array[:1], trained_tokenizer(), 1)
    assert check_vocabulary(array[:1], trained_tokenizer(), 320) is None
    assert check_vocabulary(array[:1], trained_tokenizer(), 400) is None


def test_unused_rows_and_foreign_tokens_are_told() -> None:
    def count_parameters(vocab_size: int) -> int:
        config = preset("small", n_seq=256)
        return type(config)(
            d_model=config.d_model,
            n_layers=config.n_layers,
            n_heads=config.n_heads,
            n_seq=config.n_seq,
            htt_rank=config.htt_rank,
            vocab_size=vocab_size,
        ).parameter_count()

    array = np.array([1, 2, 3], dtype=np.uint8)
    unused = count_parameters(50257) - count_parameters(256)
    note = check_vocabulary(array, BYTES, 50257, count_parameters)
    assert note is not None
    assert f"{unused:,} parameters ({unused * 4 / 2**20:.1f} MB) and 50,001 rows" in note
    assert note.endswith("put `vocab_size: 256` in the settings")
    assert "the model 50,257: 50,001 rows" in (check_vocabulary(array, BYTES, 50257) or "")
    note = check_vocabulary(np.array([5, 50256], dtype=np.uint16), BYTES, 50257)
    assert "--tokenizer bytes has 256 tokens and did not write this data, where 50,256 stands" in (note or "")
