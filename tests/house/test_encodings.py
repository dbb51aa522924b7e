"""Every text file and every text of another process names its encoding: the locale's may be ASCII."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import phase8_tune

ROOT = Path(phase8_tune.__file__).resolve().parent
FOLDERS = ("benchmarks", "kernels", "phase8", "studies", "tuner")
TEXT_MODE = re.compile(r"[rwax+t]+")


def unnamed(source: str) -> list[int]:
    """The lines of calls that read or write a text in whatever encoding the locale has."""
    return [call.lineno for call in _calls(source) if _is_text(call) and "encoding" not in _keywords(call)]


def _calls(source: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))


def _keywords(call: ast.Call) -> dict[str | None, ast.expr]:
    return {keyword.arg: keyword.value for keyword in call.keywords}


def _is_text(call: ast.Call) -> bool:
    text = _keywords(call).get("text")
    if isinstance(text, ast.Constant) and text.value is True:  # of subprocess
        return True
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "write_text"):
        return True
    if name not in ("open", "fdopen"):
        return False
    # open(path, mode), os.fdopen(descriptor, mode), path.open(mode)
    is_method = isinstance(call.func, ast.Attribute) and name == "open"
    modes = call.args[0 if is_method else 1 :][:1]
    if not modes:
        return not is_method
    return (
        isinstance(modes[0], ast.Constant)
        and isinstance(modes[0].value, str)
        and TEXT_MODE.fullmatch(modes[0].value) is not None
    )


def test_every_text_names_its_encoding() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in unnamed(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("call", "is_found"),
    [
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("open(path)", True),
        ("open(path, 'w')", True),
        ("path.open('a')", True),
        ("subprocess.run(command, text=True)", True),
        ("path.read_text(encoding='utf-8')", False),
        ("open(path, 'rb')", False),
        ("os.open(path, os.O_RDONLY)", False),
        ("RunDirectory.open(root)", False),
    ],
)
def test_what_is_looked_for(call: str, is_found: bool) -> None:
    assert bool(unnamed(call)) is is_found
