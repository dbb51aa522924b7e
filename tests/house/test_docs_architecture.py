"""docs/architecture.md and CONTRIBUTING.md name what is there: files, names, tests, rooms, versions."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import phase8_tune
from phase8_tune.tuner.builtin.phase8.spec import SPEC
from phase8_tune.tuner.compiling import notes
from phase8_tune.tuner.predict import kept_answers
from phase8_tune.tuner.predict.fit import line_files
from phase8_tune.tuner.predict.lines import LineKey
from phase8_tune.tuner.records import run_directory, study_format
from phase8_tune.tuner.report import kept_facts
from phase8_tune.tuner.search import plan_summary
from phase8_tune.tuner.training import checkpoint, settings
from phase8_tune.tuner.values import errors
from phase8_tune.tuner.values.record import RECORD_FORMAT_VERSION
from phase8_tune.tuner.workloads import spec as workload_specs

ROOT = Path(phase8_tune.__file__).resolve().parent
ARCHITECTURE, CONTRIBUTING = ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"
PAGES = (ARCHITECTURE, CONTRIBUTING)
FOLDERS = ("benchmarks", "docs", "kernels", "phase8", "studies", "tests", "tuner")
MADE_BY_COMMANDS = ("recommended/", "predictions/", "compiled/")
VERSIONS = {  # row of the table of formats → the code's own
    "run": run_directory.FORMAT_VERSION,
    "workloads": workload_specs.FORMAT_VERSION,
    "record": RECORD_FORMAT_VERSION,
    "study database": study_format.FORMAT_VERSION,
    "plan": plan_summary.PLAN_FORMAT_VERSION,
    "report": kept_facts.FORMAT_VERSION,
    "settings": settings.FORMAT_VERSION,
    "checkpoint": checkpoint.FORMAT_VERSION,
    "cache of lines": line_files._FORMAT,
    "cache of answers": kept_answers._FORMAT,
    "cache of what was compiled": notes.FORMAT,
}
PATH = re.compile(
    rf"(?<![\w/.])((?:{'|'.join(FOLDERS)})/[\w./-]*?)(?:::(\w+))?(?=[^\w./:-]|[.:,]?\s|$)", re.M
)

pytestmark = pytest.mark.skipif(
    not ARCHITECTURE.exists(), reason="phase8_tune is installed without its sources"
)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def rows(text: str) -> Iterator[list[str]]:
    """The rows of all tables, cell by cell."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def named_in(text: str) -> list[Path]:
    """The files and folders that a text names."""
    return [ROOT / path for path, _ in PATH.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page: Path) -> None:
    text = read(page)
    assert len(named_in(text)) > 50
    assert [str(path) for path in named_in(text) if not path.exists()] == []
    others = [name for name in quoted(text) if "/" in name and " " not in name and not PATH.match(name)]
    assert [n for n in others if not n.startswith(MADE_BY_COMMANDS) and not (ROOT / n).exists()] == []
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target


def test_every_test_exists() -> None:
    named = [(path, test) for page in PAGES for path, test in PATH.findall(read(page)) if test]
    assert len(named) > 20
    assert [item for item in named if f"\ndef {item[1]}(" not in read(ROOT / item[0])] == []


def test_every_name_of_the_way_is_defined_in_its_file() -> None:
    steps = [cells for cells in rows(read(ARCHITECTURE)) if len(cells) == 4 and quoted(cells[2])]
    found = [
        (cells[1], name) for cells in steps for name in quoted(cells[2]) if PATH.match(cells[1].strip("`"))
    ]
    assert len(found) > 20
    for file, name in found:
        assert re.search(rf"^(?:class|def) {name}\b", read(ROOT / file.strip("`")), re.M), (file, name)


def test_every_name_of_a_recipe_is_in_a_file_of_its_step() -> None:
    checked = 0
    for what, where, _ in (cells for cells in rows(read(CONTRIBUTING)) if len(cells) == 3):
        files = [path for path in named_in(where) if path.is_file()] + [ROOT / "README.md"] * (
            "README" in where
        )
        names = [name for name in quoted(what) if name.isidentifier()]
        text = "\n".join(map(read, files))
        assert [name for name in names if not re.search(rf"\b{name}\b", text)] == [], what
        checked += len(names)
    assert checked > 20


def test_every_room_is_described_in_the_order_of_the_contract() -> None:
    contracts = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["id"] == "rooms")
    text = read(ARCHITECTURE).partition("## The rooms of tuner/")[2].partition("\n## ")[0]
    described = [quoted(cells[0])[0] for cells in rows(text) if quoted(cells[0])]
    rooms = [room for layer in layers for room in layer.split(" | ")]
    assert described == [f"tuner/{room}{'.py' if room in ('cli', 'library') else '/'}" for room in rooms]


def test_every_folder_is_described() -> None:
    described = {name for cells in rows(read(ARCHITECTURE)) for name in quoted(cells[0])}
    assert {f"{folder}/" for folder in FOLDERS} <= described


def test_versions_are_the_codes() -> None:
    text = read(ARCHITECTURE).partition("## Formats on disk")[2].partition("\n## ")[0]
    table = {cells[0]: cells[2] for cells in rows(text)}
    assert {name: number for name, number in table.items() if number.isdecimal()} == {
        name: str(number) for name, number in VERSIONS.items()
    }


def test_exit_codes_are_the_codes() -> None:
    checked = []
    for code, *_, classes in rows(read(ARCHITECTURE)):
        for name in quoted(classes):
            kind = getattr(errors, name, None)
            if isinstance(kind, type) and issubclass(kind, errors.Phase8TuneError):
                assert code == ("128 + n" if kind.is_interrupt else str(kind.exit_code)), name
                checked.append(name)
    assert len(checked) == 5


def test_every_section_that_sources_cite_is_there() -> None:
    headings = set(re.findall(r"^## (.+)$", read(ARCHITECTURE), re.M))
    cited = {
        name
        for path in (ROOT / "tuner").rglob("*.py")
        for name in re.findall(r"docs/architecture\.md, ([A-Z][\w ]*\w)", read(path))
    }
    assert "Searching" in cited
    assert cited <= headings


def test_a_line_is_a_candidate_without_its_batch() -> None:
    """An axis that a line does not know would be predicted as if it were not there."""
    assert {field.name for field in fields(LineKey)} == {*SPEC.order, "limits"} - {"batch_size"}


def test_another_field_of_a_candidate_is_another_format_of_a_record() -> None:
    """Its earlier readers refuse what they do not know, and are to say that a later version made it."""
    version: int = RECORD_FORMAT_VERSION
    assert (SPEC.counted == set(SPEC.order)) == (version == 1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_are_short(page: Path) -> None:
    assert [line for line in read(page).splitlines() if len(line) > 110 and not line.startswith("|")] == []


def test_sources_are_under_300_lines() -> None:
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert [str(path) for path in sources if read(path).count("\n") >= 300] == []
