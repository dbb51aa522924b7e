"""Texts in pieces: the same text, and the same tokens, wherever a file is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.training import documents
from phase8_tune.tuner.training.documents import Errors, Piece, cut_place, read_pieces
from phase8_tune.tuner.training.sources import Source
from phase8_tune.tuner.values.errors import UserInputError

from .corpora import WORDS, make_text, trained_tokenizer, write_lines, write_text


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_BLOCK_BYTES", 31)
    monkeypatch.setattr(documents, "_LONGEST_PIECE", 200)


def texts_of(pieces: list[Piece]) -> list[str]:
    """The whole documents."""
    whole, parts = [], []
    for piece in pieces:
        parts.append(piece.text)
        if piece.ends_document:
            whole.append("".join(parts))
            parts = []
    assert not parts
    return whole


def test_a_text_in_pieces_is_the_text(tmp_path: Path, small_blocks: None) -> None:
    text = make_text(500) + "日" * 1000
    source = write_text(tmp_path / "a.txt", text)
    pieces = list(read_pieces(source))
    assert texts_of(pieces) == [text]
    assert len(pieces) > 50
    assert max(len(piece.text) for piece in pieces) <= 231
    assert sum(piece.read_bytes for piece in pieces) == source.path.stat().st_size


@given(
    st.lists(st.sampled_from([*WORDS, " ", " ", "\n", "\r\n", "  ", "\t", ".", "'s", "!?\n"]), max_size=40)
)
def test_a_cut_changes_no_token(parts: list[str]) -> None:
    text, tokenizer = "".join(parts), trained_tokenizer()
    cut = cut_place(text)
    pieces = [tokenizer.encode(text[:cut]), tokenizer.encode(text[cut:])]
    assert np.concatenate(pieces).tolist() == tokenizer.encode(text).tolist()


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("", 0),
        ("word", 0),
        ("a b", 1),
        ("a b ", 1),
        ("a  b", 0),
        ("a\nb", 2),
        ("a\r\nb", 0),
        ("a b\nc", 4),
        ("a\nb c", 3),
    ],
)
def test_where_a_text_is_cut(text: str, cut: int) -> None:
    assert cut_place(text) == cut


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("ä b".encode("utf-8-sig"))
    assert texts_of(list(read_pieces(Source(path=tmp_path / "a.txt", kind="text")))) == ["ä b"]
    (tmp_path / "a.jsonl").write_bytes('{"text": "ä"}'.encode("utf-8-sig"))
    assert texts_of(list(read_pieces(Source(path=tmp_path / "a.jsonl", kind="jsonl")))) == ["ä"]


@pytest.mark.parametrize("offset", [0, 2, 30, 31, 32, 61, 500])
@pytest.mark.parametrize("bad", [b"\xff", b"\xe6\x97", b"\xed\xa0\x80"])
def test_the_place_of_a_bad_byte(tmp_path: Path, small_blocks: None, offset: int, bad: bytes) -> None:
    source = Source(path=tmp_path / "a.txt", kind="text")
    content = b"x " * (offset // 2) + b"y" * (offset % 2)
    source.path.write_bytes(content + bad + b" more of it")
    with pytest.raises(UserInputError, match=f"got the byte 0x{bad[0]:02x} at offset {offset};"):
        list(read_pieces(source))
    (text,) = texts_of(list(read_pieces(source, errors="replace")))
    assert text.startswith(content.decode() + "�")
    (text,) = texts_of(list(read_pieces(source, errors="surrogateescape")))
    assert text.encode("utf-8", "surrogateescape") == source.path.read_bytes()


def test_a_document_a_line(tmp_path: Path, small_blocks: None) -> None:
    texts = ["one", make_text(100), "", "x" * 500]
    source = write_lines(tmp_path / "a.jsonl", [{"id": 1, "text": text} for text in texts])
    source.path.write_text(source.path.read_text().replace("\n", "\n\n", 1))
    pieces = list(read_pieces(source))
    assert texts_of(pieces) == texts
    assert max(len(piece.text) for piece in pieces) <= 200
    assert sum(piece.read_bytes for piece in pieces) == source.path.stat().st_size
    write_lines(source.path, [{"body": "two"}])
    assert texts_of(list(read_pieces(source, field="body"))) == ["two"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '{"body": "x", "id": 2}',
            "expected a text in the field 'text', got 'body', 'id'; name the right one with",
        ),
        ("{}", "got no field"),
        (str({str(i): i for i in range(9)}).replace("'", '"'), "got '0', '1', '2', '3', '4', '5', …"),
        ('{"text": null}', "got null"),
        ('{"text": 3}', "got a number"),
        ('{"text": ["x"]}', "got an array"),
        ('"text"', "expected a JSON object with the field 'text', got a text"),
        ("[1]", "got an array"),
        ('{"text": "x"', "got no JSON (Expecting ',' delimiter)"),
        ("[" * 100_000, "got no JSON (maximum recursion depth"),
    ],
)
@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_a_line_without_the_text_is_named(tmp_path: Path, line: str, expected: str, errors: Errors) -> None:
    source = Source(path=tmp_path / "a.jsonl", kind="jsonl")
    source.path.write_text('{"text": "good"}\n\n' + line + "\n")
    with pytest.raises(UserInputError) as caught:
        list(read_pieces(source, errors=errors))
    assert str(caught.value).startswith(f"{source.path}, line 3: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_that_is_not_utf8(tmp_path: Path) -> None:
    source = Source(path=tmp_path / "a.jsonl", kind="jsonl")
    source.path.write_bytes(b'{"text": "good"}\n{"text": "\xe4"}\n')
    with pytest.raises(UserInputError, match="got the byte 0xe4 at offset 27; it may be Latin-1"):
        list(read_pieces(source))
    assert texts_of(list(read_pieces(source, errors="replace"))) == ["good", "�"]


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_LONGEST_LINE_BYTES", 2**20)
    source = write_lines(tmp_path / "a.jsonl", [{"text": "x" * 2**20}])
    with pytest.raises(
        UserInputError, match="line 1: expected a JSON object a line, got a line of over 1 MB"
    ):
        list(read_pieces(source))


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_a_file_that_is_gone_is_one_line(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserInputError, match=r"gone: cannot be read \(No such file or directory\)"):
        list(read_pieces(Source(path=tmp_path / "gone", kind=kind)))  # type: ignore[arg-type]
