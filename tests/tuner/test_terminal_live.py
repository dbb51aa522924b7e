"""What a terminal shows while a search goes on, at several widths, and what is left when it ends."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ..faults.commands import SEARCH, faked, write_study
from .screens import Terminal

HIDDEN = b"\x1b[?25l"
STYLES = re.compile(rb"\x1b\[([\d;]*)m")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a search whose worker waits in the second of its two rows, until `let_go`."""
    write_study(tmp_path)
    os.mkfifo(tmp_path / "here")
    os.mkfifo(tmp_path / "go")
    return tmp_path


def searching(folder: Path, columns: int, **changed: str) -> Terminal:
    return Terminal(faked(*SEARCH, worker=f"--waits={folder}"), folder, columns=columns, **changed)


def let_go(folder: Path) -> None:
    (folder / "here").read_text(encoding="utf-8")
    (folder / "go").open("w").close()


def is_measuring_the_second(text: str) -> bool:
    return "1 of 2" in text and re.search(r"^now +nano 2×32 ", text, re.M) is not None


def test_what_is_measured_and_what_was_found(folder: Path) -> None:
    with searching(folder, 80) as terminal:
        terminal.until(is_measuring_the_second)
        assert terminal.lines[0].startswith("phase8-tune: study tiny, budget 4GB,")
        for columns in (40, 80, 120):
            terminal.resize(columns)
            terminal.until(shows_all(with_configuration=columns > 40))
        let_go(folder)
        assert terminal.end() == 0
        assert "1 of 2" not in terminal.text
        assert "now     " not in terminal.text
        assert "\nbalanced: nano 2×32" in terminal.text
        assert not terminal.is_cursor_hidden
        assert HIDDEN not in terminal.raw


def shows_all(*, with_configuration: bool) -> Callable[[str], bool]:
    """Whether the screen has these lines and no other: what was drawn for another width is gone."""
    expected = re.compile(
        "█+░+  1 of 2\n"
        "0 pruned · .*\n"
        r"now     nano 2×32 reference none train · \d+ s\n"
        r"memory  [█░]+  \d+ of 4,096 MB\n"
        "best    nano  320 tokens/s  0 MB" + "  nano 1×32 reference none train" * with_configuration
    )
    return lambda text: expected.fullmatch("\n".join(view(text.splitlines()))) is not None


def view(lines: list[str]) -> list[str]:
    """Lines of which the parts of one row, broken for want of width, are one again."""
    joined: list[str] = []
    for line in lines:
        if line.startswith("        ") and joined and joined[-1].startswith("now"):
            joined[-1] += f" · {line.strip()}"
        else:
            joined.append(line)
    return joined


def test_ctrl_c_leaves_the_terminal_as_it_was(folder: Path) -> None:
    with searching(folder, 80) as terminal:
        terminal.until(is_measuring_the_second)
        terminal.press(b"\x03")
        assert terminal.end() == 130
        assert "now     " not in terminal.text
        assert "run the same command to go on" in " ".join(terminal.text.split())
        assert "Traceback" not in terminal.text
        assert not terminal.is_cursor_hidden
        assert HIDDEN not in terminal.raw


def test_without_colours_and_in_ascii_the_rest_is_the_same(folder: Path) -> None:
    ascii_alone = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    with searching(folder, 60, NO_COLOR="1", **ascii_alone) as terminal:
        terminal.until(lambda text: re.search(r"^#+\.+  1 of 2$", text, re.M) is not None)
        let_go(folder)
        assert terminal.end() == 0
        assert " of 2\n" not in terminal.text
        styles = {code for found in STYLES.findall(terminal.raw) for code in found.split(b";")}
        assert styles <= {b"", b"0", b"1", b"2"}  # bold and dim


def test_a_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    write_study(tmp_path)
    with Terminal(faked(*SEARCH), tmp_path, columns=40, TERM="dumb") as terminal:
        assert terminal.end() == 0
        assert b"\x1b" not in terminal.raw
        said = terminal.raw.decode().replace("\r\n", "\n")
        assert "\n[2/2] nano 2×32 reference none" in said
        assert max(map(len, said.partition("\nSearch ended")[0].splitlines())) <= 40
