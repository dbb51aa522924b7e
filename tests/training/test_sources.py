"""Which files `--data` names, and what is refused before anything costs time."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest

from phase8_tune.tuner.training.file_kinds import MAGIC
from phase8_tune.tuner.training.sources import Source, check_text, find_sources
from phase8_tune.tuner.values.errors import UserInputError


def fill(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x01\x02" * 50 if name.endswith(".bin") else b"words\n")


def found(root: Path, *data: str) -> list[tuple[str, str]]:
    sources = find_sources([str(root / item) for item in data])
    return [(source.path.relative_to(root).as_posix(), source.kind) for source in sources]


def refusal(source: Source, *, force: bool = False) -> str:
    with pytest.raises(UserInputError) as caught:
        check_text(source, force=force)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{source.path}: ")
    return message


def test_a_folder_is_searched_for_texts_in_order(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "b.txt",
        "a/z.MD",
        "a/lines.jsonl",
        "c.py",
        "d.json",
        ".hidden.txt",
        ".git/x.txt",
        "a/.x/y.txt",
    )
    (tmp_path / "empty.txt").touch()
    assert found(tmp_path, ".") == [("a/lines.jsonl", "jsonl"), ("a/z.MD", "text"), ("b.txt", "text")]


def test_items_are_taken_in_the_order_given_and_each_file_once(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt", "b.txt", "c.log", "[x].txt")
    (tmp_path / "link.txt").symlink_to("a.txt")
    assert [name for name, _ in found(tmp_path, "c.log", "b.txt", "[x].txt", ".")] == [
        "c.log",
        "b.txt",
        "[x].txt",
        "a.txt",
    ]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.py", ["a.py"]),
        ("**/*.py", ["a.py", "deep/er/b.py"]),
        ("d*", ["deep/c.txt"]),
        ("deep/**", ["deep/c.txt", "deep/er/b.py"]),
        ("[ab].*", ["a.py"]),
    ],
)
def test_a_pattern_takes_what_it_matches(tmp_path: Path, pattern: str, names: list[str]) -> None:
    fill(tmp_path, "a.py", "deep/c.txt", "deep/er/b.py", "deep/.hidden.py")
    (tmp_path / "deep" / "empty.py").touch()
    assert [name for name, _ in found(tmp_path, pattern)] == names


def test_a_link_back_up_is_not_walked_for_ever(tmp_path: Path) -> None:
    fill(tmp_path, "a/b.txt")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert [name for name, _ in found(tmp_path, ".")] == ["a/b.txt"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([], "got none"),
        ([""], "which is not there"),
        (["missing.txt"], "which is not there"),
        (["full/a.txt/b"], "which is not there"),
        (["none*.txt"], "got none; correct the pattern"),
        (["empty*"], "got 2 without text"),
        (["empty.txt"], "got an empty file"),
        (["emptyfolder"], "found none (among 1 files)"),
        (["pipe.txt"], "got a pipe or device"),
        (["full", "ids.bin"], "got both"),
    ],
)
def test_an_item_that_leads_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, "full/a.txt", "ids.bin", "emptyfolder/photo.png")
    (tmp_path / "empty.txt").touch()
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserInputError) as caught:
        find_sources(data)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.txt")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the tests may run as root
    for data in ("a.txt", "."):
        with pytest.raises(UserInputError, match=r"a\.txt: cannot be read \(Permission denied\)"):
            find_sources([str(tmp_path / data)])


@pytest.mark.parametrize(("offset", "magic", "kind"), MAGIC, ids=[kind for _, _, kind in MAGIC])
def test_a_known_kind_of_file_is_named(tmp_path: Path, offset: int, magic: bytes, kind: str) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(b"." * offset + magic + b"the rest of it")
    message = refusal(Source(path=path, kind="text"))
    assert f"looks like {kind}, not text; " in message
    assert ("unpack it first" if "archive" in kind else "give a text file") in message
    assert message.endswith(", or go on with --force")
    check_text(Source(path=path, kind="text"), force=True)


def made_files(folder: Path) -> dict[str, bytes]:
    """Files as their own libraries write them."""
    archive, array = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.txt", "words")
    np.save(array, np.arange(9))
    connection = sqlite3.connect(folder / "made.db")
    connection.execute("create table t (x)")
    connection.commit()
    connection.close()
    return {
        "ZIP": archive.getvalue(),
        "NumPy": array.getvalue(),
        "SQLite": (folder / "made.db").read_bytes(),
        "gzip": gzip.compress(b"words"),
        "pickle": pickle.dumps({"a": 1}),
    }


def test_files_of_other_libraries_are_known(tmp_path: Path) -> None:
    for kind, content in made_files(tmp_path).items():
        (tmp_path / "data.jsonl").write_bytes(content)
        assert kind in refusal(Source(path=tmp_path / "data.jsonl", kind="jsonl"))


GERMAN = "Größe und Länge: viele Wörter stehen hier. " * 9


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GERMAN.encode("utf-16"), "looks like UTF-16; convert it (iconv -f UTF-16 -t UTF-8)"),
        (GERMAN.encode("utf-16-le"), "iconv -f UTF-16LE"),
        (GERMAN.encode("utf-16-be"), "iconv -f UTF-16BE"),
        (GERMAN.encode("utf-32"), "iconv -f UTF-32"),
        (
            GERMAN.encode("latin-1"),
            "0xf6 at offset 2; it may be Latin-1: convert it (iconv -f Latin-1 -t UTF-8)",
        ),
        (f"“{GERMAN}”".encode("cp1252"), "0x93 at offset 0; it may be Windows-1252"),
        (
            "Это русский текст. ".encode("cp1251") * 9,
            "0xdd at offset 0; it may be its language's own encoding",
        ),
        (b"words and a \0 zero byte", "looks like binary data, not text (a zero byte at offset 12)"),
        (b"words" * 20_000 + b"\0" + b"words" * 23_000, None),  # where none of the places looked at is
        (b"words" * 40_000 + b"\0", "(a zero byte at offset 200,000)"),
        (b"words" * 40_000 + b"\xe4" + b" words", "0xe4 at offset 200,000"),
        (b"words" * 40_000 + "ä".encode()[:1], "0xc3 at offset 200,000"),
        (np.random.default_rng(0).integers(1, 256, 5000).astype("u1").tobytes(), "looks like binary data"),
    ],
)
def test_what_is_not_utf8_is_said_with_its_place(
    tmp_path: Path, content: bytes, expected: str | None
) -> None:
    source = Source(path=tmp_path / "a.txt", kind="text")
    source.path.write_bytes(content)
    if expected is None:
        check_text(source, force=False)
    else:
        assert expected in refusal(source)
        check_text(source, force=True)


@pytest.mark.parametrize("sign", ["a", "ä", "日", "🙂"])
@pytest.mark.parametrize("before", range(4))
def test_places_inside_a_character_are_no_fault(tmp_path: Path, sign: str, before: int) -> None:
    source = Source(path=tmp_path / "a.txt", kind="text")
    source.path.write_bytes(b"." * before + sign.encode() * 70_001)
    check_text(source, force=False)


def test_a_source_that_is_gone_is_one_line(tmp_path: Path) -> None:
    for kind in ("text", "tokens"):
        assert "cannot be read" in refusal(Source(path=tmp_path / "gone.txt", kind=kind), force=True)


def test_token_files_are_looked_at_too(tmp_path: Path) -> None:
    source = Source(path=tmp_path / "train.bin", kind="tokens")
    for ids in (
        np.arange(3),
        np.random.default_rng(0).integers(0, 50257, 90_000),
        np.arange(65, 90).repeat(9),
    ):
        source.path.write_bytes(ids.astype("<u2").tobytes())
        check_text(source, force=False)
    source.path.write_bytes(b"words" * 40)
    assert "looks like text, not token ids; rename it to .txt" in refusal(source)
    source.path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(90))
    assert "looks like a PNG image, not token" in refusal(source)
    check_text(source, force=True)
    source.path.write_bytes(b"\1\2\3")
    assert "an odd number of bytes" in refusal(source, force=True)
