"""On a narrow terminal tables have fewer columns, and nothing but a command or a path is wider than it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.report.fitted_table import SPREAD, fit_table
from phase8_tune.tuner.values.terminal import fill, terminal_width

from .commands import SEARCH, environment, faked, run, write_study

HEADERS = ("Model", "Parameters", "Batch×sequence", "Kernels", "Tokens/s", "Peak memory (MB)")
ROWS = (
    ("nano", "0.44M", "2×32", "reference", "58.6 (±0.7)", "581.25"),
    ("medium", "46.1M", "16×1024", "v2", "12,345 (±123)", "7,612.00"),
)


def table(width: int | None) -> str:
    order = ("Parameters", f"Tokens/s{SPREAD}", "Kernels")
    return fit_table(HEADERS, ROWS, align="lrrlrr", width=width, order=order, shows_all="all --csv")


def test_a_wide_terminal_and_a_pipe_show_everything() -> None:
    assert table(None) == table(200)
    assert table(None).splitlines()[0].split() == [*HEADERS[:5], "Peak", "memory", "(MB)"]
    assert "Left out" not in table(None)


def test_headings_are_broken_before_anything_is_left_out() -> None:
    narrow = table(72)
    assert "Left out" not in narrow
    assert "Parameters" in narrow
    assert max(map(len, narrow.splitlines())) <= 72


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (62, "parameters"),
        (50, "parameters, the spread of tokens/s"),
        (40, "parameters, the spread of tokens/s, kernels"),
    ],
)
def test_what_is_left_out_is_said(width: int, left_out: str) -> None:
    lines = table(width).splitlines()
    assert max(map(len, lines)) <= width
    note = " ".join(line.strip() for line in lines[lines.index(next(x for x in lines if "Left" in x)) :])
    assert note == f"Left out for want of width: {left_out}. All of it: all --csv"
    assert "7,612.00" in table(width)
    assert ("(±123)" in table(width)) == (width == 62)


def test_a_table_without_rows() -> None:
    text = fit_table(("a", "b"), (), align="lr", width=20, order=(), shows_all="")
    assert text.splitlines()[0].split() == ["a", "b"]


@given(st.lists(st.text("ab cd", max_size=60)).map("\n".join), st.integers(20, 60))
def test_filled_lines_keep_to_the_width_and_lose_no_word(text: str, width: int) -> None:
    filled = fill(text, width)
    assert filled.split() == text.split()
    assert all(len(line) <= width or len(line.split()) == 1 for line in filled.splitlines())


def test_what_is_no_terminal_has_no_width(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w", encoding="utf-8") as file:
        assert terminal_width(file) is None
    assert fill("a line\n" * 3, None) == "a line\n" * 3


def on_a_terminal(command: Sequence[str], folder: Path, columns: int) -> list[str]:
    """What a command prints where its standard output is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(COLUMNS=str(columns)),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 1 << 16)
            except OSError:  # EIO: the command has ended
                break
    os.close(ours)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n").splitlines()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    write_study(folder)
    assert run(faked(*SEARCH), folder).returncode == 0
    return folder


@pytest.mark.parametrize("arguments", [("frontier", "tiny-4GB-cpu"), SEARCH], ids=["frontier", "search"])
def test_a_command_keeps_to_forty_columns(searched: Path, arguments: Sequence[str]) -> None:
    lines = on_a_terminal(faked(*arguments), searched, 40)
    copied = ("  phase8-tune frontier", "To explore:", "Report:", "All trials:", "Recommended:", "Next:")
    assert [line for line in lines if len(line) > 40 and not line.startswith(copied)] == []
    command = "phase8-tune frontier runs/tiny-4GB-cpu"
    if arguments is SEARCH:  # its table is that command away
        assert any(command in line for line in lines)
        return
    assert f"  {command} --csv" in lines
    whole = run(faked(*arguments), searched, env=environment(COLUMNS="40")).stdout
    assert "Parameters" in whole
    assert "Left out" not in whole
