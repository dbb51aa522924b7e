"""Every command that README and the pages for users show is there, and has the options it is shown with."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import phase8_tune
from phase8_tune.tuner.cli import cli
from phase8_tune.tuner.commands.generate import generate
from phase8_tune.tuner.commands.tokenizer import tokenizer
from phase8_tune.tuner.commands.train import train

ROOT = Path(phase8_tune.__file__).resolve().parent
NAMES = ("README.md", "README.ja.md", "docs/guide.md", "docs/faq.md", "docs/commands.md", "docs/workloads.md")
COMMANDS = {"phase8-tune": cli, "phase8-train": train, "phase8-generate": generate}
SHOWN = re.compile(
    r"(?:`|^    (?:\$ )?(?:\.venv/bin/)?)(phase8-(?:tune|train|generate)(?: .*?)?)(?:`|$)", re.M
)

pytestmark = pytest.mark.skipif(
    not (ROOT / "README.md").exists(), reason="phase8_tune is installed from a wheel, without its pages"
)


def shown(name: str) -> list[str]:
    """The commands of a page: between backticks, and indented; each with the lines that go on with it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return SHOWN.findall(re.sub(r" \\\n +|\n +(?=--)", " ", text))


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words call, and what is left for it."""
    command: click.Command = COMMANDS[words[0]]
    rest = words[1:]
    if command is train and rest[:1] == ["tokenizer"]:
        return tokenizer, rest[1:]
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def unknown(line: str) -> set[str]:
    """What a shown command says that is not there: options, and a command of a group."""
    command, rest = command_of(line.split())
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    asked = {word for word in rest if word.startswith("--")} - known - {"--help"}
    if isinstance(command, click.Group) and rest and rest[0] != "COMMAND" and not rest[0].startswith("--"):
        asked.add(rest[0])
    return asked


@pytest.mark.parametrize("name", NAMES)
def test_every_command_that_is_shown_exists(name: str) -> None:
    found = shown(name)
    assert len(found) >= 5
    assert {line: unknown(line) for line in found if unknown(line)} == {}


def test_what_is_not_there_is_seen() -> None:
    assert unknown("phase8-tune predict --model small --nothing") == {"--nothing"}
    assert unknown("phase8-tune nothing --vram 8GB") == {"nothing"}
    assert unknown("phase8-train tokenizer text -o tok.json --steps 3") == {"--steps"}
