"""Commands that are shown work when they are pasted into a shell, whatever the run is called."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from phase8_tune.tuner.commands.request import RunRequest, run_root
from phase8_tune.tuner.report.terminal import render_files
from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.shell_words import shell_path

from .commands import SEARCH, STUDY, environment, faked, run, write_study


def test_the_commands_of_a_run_with_a_blank_in_its_name(tmp_path: Path) -> None:
    write_study(tmp_path)
    done = run(faked(*SEARCH, "--run", "it's a $HOME"), tmp_path)
    assert done.returncode == 0, done.stderr
    (next_,) = re.findall(r"^Next:  (.*) --data FILE$", done.stdout, re.MULTILINE)
    program, settings = shlex.split(next_)
    assert program == "phase8-train"
    assert (tmp_path / settings).is_file()
    report = (tmp_path / "runs" / "it's a $HOME" / "report.md").read_text(encoding="utf-8")
    block = re.search(r"```bash\n(.*?)```", report, re.DOTALL)
    assert block is not None
    search, frontier = block[1].splitlines()
    assert shlex.split(search)[1:] == [*SEARCH, "--run", "it's a $HOME"]
    again = ["sh", "-c", frontier.replace("phase8-tune", shlex.join(faked()), 1)]
    shown = run(again, tmp_path, env=environment())
    assert shown.returncode == 0, shown.stderr
    assert "Frontier on fake processor" in shown.stdout


@pytest.mark.parametrize(
    ("path", "word"),
    [("runs/mine", "runs/mine"), ("a b", "'a b'"), ("-x/y", "./-x/y"), ("-a b", "'./-a b'"), ("~", "'~'")],
)
def test_a_path_is_one_word_and_no_option(path: str, word: str) -> None:
    assert shell_path(Path(path)) == word
    assert f"phase8-train {word} --data" in render_files(Path("runs"), [Path("any.yaml")], Path(path))


@pytest.mark.parametrize("name", ["a\nb", "a/b", "a\\b", ".", " ", "\x1b[31m"])
def test_a_run_name_that_would_break_a_line_is_refused(name: str) -> None:
    request = RunRequest(vram_bytes=2**30, command="", run_name=name)
    with pytest.raises(UserInputError, match="--run: expected a plain folder name") as refused:
        run_root(request, parse_definition(STUDY, "tiny.yaml"), "cpu")
    assert len(str(refused.value).splitlines()) == 1
