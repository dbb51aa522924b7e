"""Tokenizers: texts come back whole, streams show whole characters, the same text makes the same one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.commands.tokenizer import tokenizer as command
from phase8_tune.tuner.training.sources import Source
from phase8_tune.tuner.training.tokenizer import (
    BytesTokenizer,
    Tokenizer,
    decode_stream,
    load_tokenizer,
    token_dtype,
    tokenizer_from_json,
    train_tokenizer,
)
from phase8_tune.tuner.values.errors import UserInputError

from .corpora import BYTES, ignore_progress, make_text, trained_tokenizer, write_lines, write_text

TOKENIZERS = pytest.mark.parametrize("make", [BytesTokenizer, trained_tokenizer], ids=["bytes", "trained"])


def json_of(tokenizer: Tokenizer) -> str:
    text = tokenizer.to_json()
    assert text is not None
    return text


def stream(tokenizer: Tokenizer, ids: Sequence[int], step: int = 1) -> list[str]:
    """What a stream tells after each step, and at its end."""
    told = decode_stream(tokenizer)
    return [*(told.feed(ids[i : i + step]) for i in range(0, len(ids), step)), told.finish()]


@TOKENIZERS
@given(text=st.text() | st.text(alphabet="a \n\r\t'日ä🙂<|endoftext|>"))
def test_decoding_gives_the_text_again(make, text: str) -> None:
    tokenizer = make()
    ids = tokenizer.encode(text)
    assert ids.dtype == token_dtype(tokenizer.vocab_size)
    assert tokenizer.decode(ids.tolist()) == text
    assert "".join(stream(tokenizer, ids.tolist())) == text


@TOKENIZERS
@given(ids=st.lists(st.integers(0, 255), max_size=40), step=st.integers(1, 5))
def test_a_stream_tells_what_decoding_does(make, ids: list[int], step: int) -> None:
    tokenizer = make()
    assert "".join(stream(tokenizer, ids, step)) == tokenizer.decode(ids)


@TOKENIZERS
@pytest.mark.parametrize("text", ["aä日🙂b", "🙂🙂", "\ufffd!"])
def test_a_stream_never_tells_half_a_character(make, text: str) -> None:
    parts = stream(make(), make().encode(text).tolist())
    assert "".join(parts) == text
    assert set("".join(parts)) == set(text)


def test_a_stream_tells_what_it_can_as_soon_as_it_can() -> None:
    assert stream(BYTES, "a🙂b".encode()) == ["a", "", "", "", "🙂", "b", ""]
    assert stream(BYTES, b"\xff\xffa\xe6\x97") == ["", "�", "�a", "", "", "�"]


def test_a_stream_of_words_keeps_the_spaces_between_them() -> None:
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models

    library = Library(models.WordLevel({"▁the": 0, "▁house": 1}, unk_token="▁the"))
    library.decoder = decoders.Metaspace()
    assert stream(tokenizer_from_json(library.to_str(), name="words"), [0, 1, 1]) == [
        "the",
        " house",
        " house",
        "",
    ]


def test_ids_that_are_no_bytes_are_shown() -> None:
    assert BYTES.decode([97, 300, 98]) == "a�b"
    assert trained_tokenizer().decode([10**6]) == ""


def test_surrogates_have_ids_too() -> None:
    assert BYTES.encode("a\udcff").tolist() == [97, 255]  # as Python reads a byte that is no UTF-8
    assert BYTES.decode(BYTES.encode("a\ud83d").tolist()) == "a�"
    assert trained_tokenizer().decode(trained_tokenizer().encode("\ud83d\ude42 \udcff").tolist()) == "🙂 �"


def test_the_types_of_ids() -> None:
    sizes = (256, 257, 65536, 65537)
    assert [token_dtype(size) for size in sizes] == [np.uint8, np.uint16, np.uint16, np.uint32]


def test_a_trained_tokenizer_begins_with_the_end_of_text_and_the_bytes() -> None:
    tokenizer = trained_tokenizer()
    assert tokenizer.vocab_size == 320
    assert tokenizer.end_of_text == 0
    assert tokenizer.encode("a<|endoftext|>b").tolist()[1] == 0
    vocabulary = json.loads(json_of(tokenizer))["model"]["vocab"]
    assert sorted(len(token) for token, number in vocabulary.items() if 0 < number <= 256) == [1] * 256
    text = make_text(200, seed=1)
    assert len(tokenizer.encode(text)) < 0.6 * len(text.encode())


_TRAIN = """
import sys
from pathlib import Path
from phase8_tune.tuner.training.sources import find_sources, check_text
from phase8_tune.tuner.training.tokenizer import load_tokenizer, train_tokenizer
from phase8_tune.tuner.training.tokens import open_tokens
import phase8_tune.tuner.commands.tokenizer
sources = find_sources(sys.argv[1:])
check_text(sources[0], force=False)
sys.stdout.write(train_tokenizer(sources, 320, lambda done, total: None))
open_tokens(sources, load_tokenizer("bytes"), cache=None, on_progress=lambda done, total: None)
assert "torch" not in sys.modules
"""


def test_the_same_text_gives_the_same_tokenizer_in_another_process_without_torch(tmp_path: Path) -> None:
    source = write_text(tmp_path / "corpus.txt", make_text(3000))
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN, str(source.path)],
        env={**os.environ, "PYTHONHASHSEED": "7", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == json_of(trained_tokenizer())


def test_what_a_tokenizer_is_trained_on(tmp_path: Path) -> None:
    sources = [
        write_text(tmp_path / "a.txt", "one two<|endoftext|>one two " * 50),
        write_lines(tmp_path / "b.jsonl", [{"body": "one two"}, {"body": "\ud83d"}] * 50),
    ]
    seen: list[tuple[int, int]] = []
    text = train_tokenizer(sources, 2000, lambda done, total: seen.append((done, total)), field="body")
    vocabulary = json.loads(text)["model"]["vocab"]
    assert {"one", "Ġtwo"} <= set(vocabulary)
    assert not [token for token in vocabulary if "|" in token and len(token) > 1 and token != "<|endoftext|>"]
    total = sum(source.path.stat().st_size for source in sources)
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_what_a_tokenizer_cannot_be_trained_on(tmp_path: Path) -> None:
    good = write_text(tmp_path / "a.txt", "words")
    with pytest.raises(UserInputError, match="expected at least 257"):
        train_tokenizer([good], 256, ignore_progress)
    bad = write_lines(tmp_path / "b.jsonl", [{"body": "x"}])
    with pytest.raises(UserInputError, match="line 1: expected a text in the field 'text'"):
        train_tokenizer([good, bad], 300, ignore_progress)
    with pytest.raises(UserInputError, match="got a token file"):
        train_tokenizer([Source(path=good.path, kind="tokens")], 300, ignore_progress)
    good.path.write_bytes(b"w\xe4rds")
    with pytest.raises(UserInputError, match="0xe4 at offset 1"):
        train_tokenizer([good], 300, ignore_progress)
    assert train_tokenizer([good], 300, ignore_progress, force=True)


def test_a_digest_is_of_what_gives_the_ids(tmp_path: Path) -> None:
    tokenizer = trained_tokenizer()
    content = json.loads(json_of(tokenizer))
    again = tokenizer_from_json(json_of(tokenizer), name="checkpoint")
    assert again.digest() == tokenizer.digest()
    assert (again.to_json(), again.name) == (tokenizer.to_json(), "checkpoint")
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    path = tmp_path / "indented.json"
    path.write_text(json.dumps(content, indent=1))
    cut = load_tokenizer(str(path))
    assert cut.digest() == tokenizer.digest()
    assert (
        cut.encode("nothing is cut off " * 9).tolist() == tokenizer.encode("nothing is cut off " * 9).tolist()
    )
    assert len({tokenizer.digest(), trained_tokenizer(300).digest(), BYTES.digest()}) == 3
    assert BYTES.to_json() is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "which is no file"),
        (b"", "expected JSON of the tokenizers library, got something else"),
        (b'{"a": 1}', "expected JSON of the tokenizers library"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b'{"version":"1.0","model":{"type":"BPE","vocab":{},"merges":[]}}', "got an empty one"),
    ],
)
def test_what_is_no_tokenizer_is_one_line(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserInputError) as caught:
        load_tokenizer(str(path))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json_of(trained_tokenizer())
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserInputError, match="pip install tokenizers"):
        tokenizer_from_json(text, name="x.json")


def run(*arguments: object) -> str:
    done = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_writes_a_tokenizer_and_says_what_it_is(tmp_path: Path) -> None:
    write_text(tmp_path / "corpus.txt", make_text(300))
    output = tmp_path / "tok.json"
    told = run(tmp_path / "corpus.txt", "--vocab-size", 300, "-o", output)
    assert f"{output}: 300 tokens, 2." in told.splitlines()[0]
    assert f"--tokenizer {output}, and `vocab_size: 300`" in told
    assert load_tokenizer(str(output)).vocab_size == 300
    assert "(this text gives no more, of 9,999)" in run(tmp_path, "--vocab-size", 9999, "-o", output)


def test_the_command_refuses_before_it_works(tmp_path: Path) -> None:
    corpus = write_text(tmp_path / "corpus.txt", make_text(300)).path
    with pytest.raises(UserInputError, match="which is something else; choose another name"):
        run(corpus, "--vocab-size", 300, "-o", corpus)
    with pytest.raises(UserInputError, match=r"expected a folder that is there, got .*none"):
        run(corpus, "--vocab-size", 300, "-o", tmp_path / "none" / "tok.json")
    corpus.write_bytes(b"%PDF-1.4")
    with pytest.raises(UserInputError, match="looks like a PDF document"):
        run(corpus, "--vocab-size", 300, "-o", tmp_path / "tok.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt"]
    assert run(corpus, "--vocab-size", 300, "-o", tmp_path / "tok.json", "--force")
