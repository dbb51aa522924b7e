"""Full disks, closed streams, readers that left, other encodings: a result is printed or its loss is said."""

from __future__ import annotations

import io
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import click
import pytest

from phase8_tune.tuner.cli import main
from phase8_tune.tuner.commands.entry import Unheard, enter
from phase8_tune.tuner.commands.streams import GuardedStream, guarded_streams, plain

from .commands import SEARCH, environment, faked, run, write_study

LOST = (
    "phase8-tune: standard output: expected room for what this command prints, got: No space left on device; "
    "make room or send it elsewhere, and run it again"
)
FRONTIER = ("frontier", "tiny-4GB-cpu")
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
PRINTING: dict[str, tuple[Sequence[str], dict[str, str]]] = {
    "a table": (FRONTIER, {}),
    "a table, unbuffered": (FRONTIER, UNBUFFERED),
    "CSV": ((*FRONTIER, "--csv"), {}),
    "help": (("--help",), {}),
    "JSON, and a code of its own": (("doctor", "--json"), {}),
    "a search": (SEARCH, {}),
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search."""
    folder = tmp_path_factory.mktemp("searched")
    write_study(folder)
    assert run(faked(*SEARCH), folder).returncode == 0
    return folder


@pytest.mark.parametrize(("arguments", "changed"), PRINTING.values(), ids=PRINTING)
def test_a_result_that_cannot_be_written_is_one_line(
    searched: Path, arguments: Sequence[str], changed: dict[str, str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run(faked(*arguments), searched, stdout=full, env=environment(**changed))
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith("phase8-tune: study tiny")]
    assert said == [LOST]


@pytest.mark.parametrize("closed", [1, 2])
def test_a_search_goes_on_without_a_stream(tmp_path: Path, closed: int) -> None:
    """As the shell's `>&-`; what goes to the other stream is all that goes there."""
    write_study(tmp_path)
    command = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *faked(*SEARCH)]
    done = run(command, tmp_path)
    assert done.returncode == 0
    assert ("balanced: " in done.stdout) == (closed == 2)
    assert ("[2/2]" in done.stderr) == (closed == 1)
    assert "[2/2]" not in done.stdout
    assert (tmp_path / "runs" / "tiny-4GB-cpu" / "report.md").exists()


def test_a_search_goes_on_where_progress_cannot_be_written(tmp_path: Path) -> None:
    write_study(tmp_path)
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run(faked(*SEARCH), tmp_path, stderr=full)
    assert done.returncode == 0
    assert "2 configurations: 2 measured" in done.stdout


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe without a reader, as `| true` leaves it."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_a_reader_that_left_hides_no_error(tmp_path: Path, unread: int) -> None:
    """`phase8-tune … | true`: nothing is said of it, and the code stays that of the search."""
    write_study(tmp_path)
    assert run(faked(*SEARCH), tmp_path, stdout=unread).returncode == 0
    done = run(faked(*SEARCH, "--run", "exits", worker="--start=exit"), tmp_path, stdout=unread)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("unheard", "told"),
    [
        (Unheard.GOES_ON, ""),
        (Unheard.SAYS_SO, "it: standard output: nobody reads it any more; goes on to its end without it\n"),
    ],
)
def test_a_command_without_a_reader_ends_with_its_own_code(
    unread: int,
    unheard: Unheard,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    @click.pass_context
    def write(context: click.Context) -> None:
        for _ in range(3):
            click.echo("text")
        context.exit(4)

    monkeypatch.setattr(sys, "stdout", open(os.dup(unread), "w", encoding="utf-8"))  # noqa: SIM115
    with pytest.raises(SystemExit) as end:
        enter("it", write, [], unheard)
    assert end.value.code == 4
    assert capsys.readouterr().err == told


def test_what_only_prints_ends_with_its_reader(
    unread: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []

    @click.command()
    def write() -> None:
        for number in itertools.count():
            click.echo(f"piece {number}")
            done.append(number)

    monkeypatch.setattr(sys, "stdout", open(os.dup(unread), "w", encoding="utf-8"))  # noqa: SIM115
    enter("it", write, [], Unheard.ENDS)
    assert done == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_print_leaves_a_closed_stream_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A None in `file=` would be standard output."""
    monkeypatch.setattr(sys, name, None)
    with guarded_streams():
        assert getattr(sys, name) is not None
        print("nobody reads this", file=getattr(sys, name), flush=True)


def test_a_loss_is_told_again() -> None:
    """What a library made of the first error is its own affair."""
    told: list[OSError] = []
    stream = GuardedStream(_full(), told.append)
    assert stream.loss is None
    assert stream.write("text") == 4
    stream.write("text")
    stream.flush()
    assert told == [stream.loss] * 3


def _full() -> TextIO:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    return Full()


ASCII = {
    "asked for": {"PYTHONIOENCODING": "ascii"},
    "the locale's": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


@pytest.mark.parametrize("settings", ASCII.values(), ids=ASCII)
def test_a_stream_without_a_sign_gets_another(tmp_path: Path, settings: dict[str, str]) -> None:
    write_study(tmp_path)
    done = run(faked(*SEARCH, "--run", "größer"), tmp_path, env=environment(LC_ALL="C") | settings)
    assert done.returncode == 0, done.stderr
    assert "2x32" in done.stdout
    assert "2x32" in done.stderr
    report = tmp_path / "runs" / "größer" / "report.md"
    assert "2×32" in report.read_text(encoding="utf-8")
    assert "größer" in report.read_text(encoding="utf-8")


def test_a_name_that_is_no_text_is_written_as_it_came(tmp_path: Path) -> None:
    write_study(tmp_path)
    name = os.fsdecode(b"run\xff")
    done = run(faked(*SEARCH, "--run", name), tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"run\xff" in (tmp_path / "runs" / name / "report.md").read_bytes()
    assert os.fsencode(name) in done.stdout.encode(errors="surrogateescape")


def test_plain_signs_keep_what_can_be_kept() -> None:
    assert plain("größer 8×512 (±1) ▏█ a\udcffb", "ascii") == "gro?er 8x512 (+/-1) ## a\udcffb"


def test_the_streams_are_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    main(["--version"])
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out.strip()
