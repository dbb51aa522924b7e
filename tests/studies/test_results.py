"""Recorded evidence: every folder of studies/results says what ran, on what, and what came out."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[2] / "studies" / "results"
FOLDERS = sorted(path for path in RESULTS.iterdir() if path.is_dir())
ENVIRONMENT = ("gpu", "driver", "cuda", "torch", "triton", "python", "commit", "command")
LARGEST_BYTES = 1 << 20


def numbers(value: Any) -> Iterator[float]:
    """All numbers of a JSON document."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_there_are_results_and_nothing_else() -> None:
    assert FOLDERS
    assert [path.name for path in RESULTS.iterdir() if not path.is_dir()] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_name_is_date_gpu_and_what(folder: Path) -> None:
    named = re.fullmatch(r"(\d{4}-\d{2}-\d{2})-([a-z0-9]+)-([a-z0-9]+(?:-[a-z0-9]+)*)", folder.name)
    assert named
    datetime.date.fromisoformat(named[1])
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    assert named[2] in environment["gpu"].lower().replace(" ", "")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_environment_is_complete(folder: Path) -> None:
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    for field in ENVIRONMENT:
        assert isinstance(environment.get(field), str), field
        assert environment[field].strip(), field
    assert re.fullmatch(r"[0-9a-f]{40}", environment["commit"])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_results_are_finite_numbers(folder: Path) -> None:
    found = list(numbers(json.loads((folder / "results.json").read_text(encoding="utf-8"))))
    assert found
    assert all(map(math.isfinite, found))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_report_has_a_title_a_table_and_text(folder: Path) -> None:
    lines = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert any(re.fullmatch(r"\|[-:| ]+\|", line) for line in lines)
    assert any(len(line) > 40 and line[0].isalpha() for line in lines)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files_are_small_and_name_no_machine(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        assert path.stat().st_size < LARGEST_BYTES, path
        if path.suffix in (".json", ".md", ".csv", ".txt", ".yaml", ".svg"):
            assert not re.search(
                r"(?<![\w.:/])/(?:home|root|tmp|work|opt|usr|mnt)/", path.read_text("utf-8")
            ), path
