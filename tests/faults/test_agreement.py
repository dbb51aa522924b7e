"""A run whose journal was lost is refused while its study knows better; a lost study is made again."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from phase8_tune.tuner.measuring.pool import LocalExecutor
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.run_directory import check_run_directory
from phase8_tune.tuner.search.search import run_search
from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.values.errors import UserInputError

from .commands import STUDY

BUDGET_BYTES = 2**30
DEFINITION = parse_definition(STUDY, "tiny.yaml")


def search(root: Path) -> int:
    """How many candidates a search in the folder measured."""
    measurer = FormulaMeasurer(BUDGET_BYTES)
    with LocalExecutor({"one": measurer}, on_loss=print) as pool:
        run_search(DEFINITION, pool, root, budget_bytes=BUDGET_BYTES, on_event=lambda event: None)
    return len(measurer.measured)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "finished"
    assert search(root) == 2
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "a run?"))


def first_line_only(journal: Path) -> None:
    first, _, _ = journal.read_text(encoding="utf-8").partition("\n")
    journal.write_text(f"{first}\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("lose", "left"),
    [(Path.unlink, 0), (lambda journal: journal.write_bytes(b""), 0), (first_line_only, 1)],
    ids=["removed", "emptied", "cut"],
)
def test_a_lost_journal_is_refused_and_nothing_changed(
    root: Path, lose: Callable[[Path], object], left: int
) -> None:
    lose(root / "records.jsonl")
    before = {path: path.read_bytes() for path in root.iterdir() if path.is_file()}
    with pytest.raises(UserInputError) as caught:
        check_run_directory(root, DEFINITION, BUDGET_BYTES)
    assert str(caught.value) == (
        f"{root}: expected a record of every trial that study.db knows, got 2 trials there and {left} "
        "records in records.jsonl; restore that file to go on, remove study.db too to measure what it lacks "
        "once more, or name another run with --run"
    )
    with pytest.raises(UserInputError, match="expected a record of every trial"):
        search(root)
    assert {path: path.read_bytes() for path in root.iterdir() if path.is_file()} == before
    (root / "study.db").unlink()
    assert search(root) == 2 - left


def test_a_lost_study_is_made_again(root: Path) -> None:
    kept = (root / "records.jsonl").read_bytes()
    (root / "study.db").unlink()
    assert search(root) == 0
    assert (root / "records.jsonl").read_bytes() == kept
    assert len(read_records(root / "records.jsonl")) == 2
    assert search(root) == 0


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"\xff" * 200, b"no database"])
def test_a_damaged_study_says_nothing_of_the_journal(root: Path, content: bytes) -> None:
    (root / "study.db").write_bytes(content)
    check_run_directory(root, DEFINITION, BUDGET_BYTES)


def test_nor_does_a_study_in_use(root: Path) -> None:
    (root / "records.jsonl").unlink()
    with closing(sqlite3.connect(root / "study.db")) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        check_run_directory(root, DEFINITION, BUDGET_BYTES)
        connection.rollback()
