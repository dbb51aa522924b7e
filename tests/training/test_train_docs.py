"""docs/train.md names every option of the commands it walks through, and what it links is there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import phase8_tune
from phase8_tune.tuner.commands.generate import generate
from phase8_tune.tuner.commands.tokenizer import tokenizer
from phase8_tune.tuner.commands.train import train
from phase8_tune.tuner.commands.verify import verify

PAGE = Path(phase8_tune.__file__).resolve().parent / "docs" / "train.md"
SECTIONS = {  # where a command's options are told: an option of one is not told by that of another
    "tokenizer": (tokenizer, "## Tokens", "## Data"),
    "train": (train, "## Tokens", "## The files"),
    "verify": (verify, "## Does the recommendation hold?", "## Generating"),
    "generate": (generate, "## Generating", None),
}

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="phase8_tune is installed without its sources")


def read() -> str:
    return PAGE.read_text(encoding="utf-8")


def section(begin: str, end: str | None) -> str:
    text = read()
    assert begin in text
    assert end is None or end in text
    return text[text.index(begin) : None if end is None else text.index(end)]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_option_is_named(name: str) -> None:
    command, begin, end = SECTIONS[name]
    told = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section(begin, end)))
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert len(options) >= 4
    assert {name for option in options for name in (*option.opts, *option.secondary_opts)} - told == set()


def test_every_option_of_a_table_exists() -> None:
    """The first cell of a row names what the section's command has."""
    known = {
        name
        for command, _, _ in SECTIONS.values()
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
    }
    rows = re.findall(r"^\| (`--?[a-z].*?) \| ", read(), re.M)
    assert len(rows) > 20
    assert {name for row in rows for name in re.findall(r"--?[a-z][a-z-]*", row)} - known == set()


def test_every_file_that_is_linked_exists() -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read())
    assert len(targets) >= 2
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []


def test_every_section_that_is_linked_exists() -> None:
    headings = {
        re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))
        for heading in re.findall(r"^#+ (.+)$", read(), re.M)
    }
    assert {*re.findall(r"\]\(#([^)]+)\)", read())} <= headings


def test_lines_are_short() -> None:
    assert [line for line in read().splitlines() if len(line) > 110 and not line.startswith("|")] == []
