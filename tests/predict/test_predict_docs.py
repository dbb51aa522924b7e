"""docs/predict.md shows every constant that predictions follow from as it is, and names what exists."""

from __future__ import annotations

import ast
import functools
import importlib
import math
import re
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import phase8_tune
from phase8_tune.tuner.measuring.memory import cap_bytes
from phase8_tune.tuner.predict import fits
from phase8_tune.tuner.predict.rate.profiles import gpu_profile

ROOT = Path(phase8_tune.__file__).resolve().parent
PREDICT = ROOT / "tuner" / "predict"
TRACES_PHASE8 = [f"tuner/builtin/phase8/{name}.py" for name in ("lines", "traced_trainer", "tracing")]
TESTS = ROOT / "tests" / "predict"
PAGE = ROOT / "docs" / "predict.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="phase8_tune is installed without its sources")

SMALL_NUMBERS = {0, 1, 2}
"""Literals that are arithmetic and no knowledge: no row is asked for them."""
WITHOUT_FIGURES = {
    "lines.py",
    "trace/accumulation.py",
    "trace/operations.py",
    "trace/step_progress.py",
    "trace/patches.py",
    "tuner/builtin/phase8/tracing.py",
}
"""Files whose functions have numbers that no predicted figure depends on: frames, places of arguments."""
SOURCES_OF_OTHERS = ("aten/", "c10/", "torch/")


class Place(NamedTuple):
    """A name of a file of tuner/predict, or of what traces Phase 8."""

    file: str
    name: str


@functools.cache
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@functools.cache
def tables() -> list[list[dict[str, str]]]:
    """The page's tables as rows, by heading."""
    found: list[list[dict[str, str]]] = []
    headings: list[str] = []
    for line in page().splitlines():
        if not line.startswith("|"):
            headings = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not headings:
            headings = cells
            found.append([])
        elif set(line) - set("|-: "):
            found[-1].append(dict(zip(headings, cells, strict=True)))
    return found


def rows_with(*headings: str) -> list[dict[str, str]]:
    return [row for table in tables() for row in table if set(headings) <= row.keys()]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@functools.cache
def constants() -> dict[Place, str]:
    """The rows of the tables of constants, a name a row: its value as it is written."""
    found: dict[Place, str] = {}
    for row in rows_with("constant", "file", "value"):
        [name], [file], values = quoted(row["constant"]), quoted(row["file"]), quoted(row["value"])
        place = Place(file, name)
        assert place not in found, f"{place} has two rows"
        found[place] = " ".join(values)
    return found


def is_numeric(value: object) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(is_numeric, value))
    if isinstance(value, dict):
        return bool(value) and all(map(is_numeric, value.values()))
    return isinstance(value, Real) and not isinstance(value, bool)


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PREDICT.rglob("*.py")):
        yield path.relative_to(PREDICT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
    for file in TRACES_PHASE8:
        yield file, ast.parse((ROOT / file).read_text(encoding="utf-8"))


def module_of(file: str) -> Any:
    room = "phase8_tune" if file in TRACES_PHASE8 else "phase8_tune.tuner.predict"
    return importlib.import_module(".".join([room, *Path(file).with_suffix("").parts]))


def names_of(target: ast.expr) -> list[str]:
    if isinstance(target, ast.Tuple):
        return [name for part in target.elts for name in names_of(part)]
    return [target.id] if isinstance(target, ast.Name) else []


def assigned(tree: ast.Module) -> Iterator[str]:
    """Names that a module gives values itself, other than those it imports."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            yield from (name for target in statement.targets for name in names_of(target))
        elif isinstance(statement, ast.AnnAssign):
            yield from names_of(statement.target)


@functools.cache
def present_values() -> dict[Place, Any]:
    """Every numeric constant of a module: _ALL_CAPS, a number or numbers."""
    found = {}
    for file, tree in sources():
        for name in assigned(tree):
            if re.fullmatch(r"_?[A-Z][A-Z0-9_]*", name):
                value = getattr(module_of(file), name)
                if is_numeric(value):
                    found[Place(file, name)] = value
    return found


def literals_in(statement: ast.stmt) -> set[float]:
    values: list[Any] = [node.value for node in ast.walk(statement) if isinstance(node, ast.Constant)]
    return {value for value in values if type(value) in (int, float)} - SMALL_NUMBERS


def named_parts(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Functions, methods, and dictionaries that are made by calling functions."""
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef):
            yield statement.name, statement
        elif isinstance(statement, ast.ClassDef):
            for part in statement.body:
                if isinstance(part, ast.FunctionDef):
                    yield f"{statement.name}.{part.name}", part
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.value, ast.Dict):
            yield from ((name, statement) for name in names_of(statement.target))


@functools.cache
def literals() -> dict[Place, set[float]]:
    """Numbers in rules: those of every named part that is no constant itself."""
    found: dict[Place, set[float]] = {}
    for file, tree in sources():
        for name, part in named_parts(tree):
            numbers = set() if file in WITHOUT_FIGURES else literals_in(part)
            if numbers and Place(file, name) not in present_values():
                found.setdefault(Place(file, name), set()).update(numbers)
    return found


def test_every_constant_has_its_row() -> None:
    assert sorted(present_values().keys() - constants().keys()) == []


def test_every_value_is_the_present_one() -> None:
    for place, value in present_values().items():
        shown = eval(constants()[place], {**vars(module_of(place.file)), "MiB": 1 << 20})
        assert shown == value or (isinstance(value, float) and math.isclose(shown, value)), place


def test_every_number_in_a_rule_has_its_row() -> None:
    missing = {
        place: sorted(numbers - numbers_in(constants().get(place, "")))
        for place, numbers in literals().items()
        if numbers - numbers_in(constants().get(place, ""))
    }
    assert missing == {}


def numbers_in(text: str) -> set[float]:
    return {float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])", text)}


def test_no_row_is_left_of_what_is_gone() -> None:
    for file, name in constants():
        holder, _, method = name.partition(".")
        assert hasattr(module_of(file), holder), f"{file}: {name}"
        assert not method or hasattr(getattr(module_of(file), holder), method), f"{file}: {name}"


def test_rules_of_what_fits_are_the_present_ones() -> None:
    for name in ("RECOMMEND", "LAUNCH"):
        assert eval(constants()[Place("fits.py", name)], vars(fits)) == getattr(fits, name)


def test_the_example_has_the_room_that_is_said() -> None:
    profile = gpu_profile("h100")
    outside = sum(int(f.value) for f in (profile.context_bytes, profile.libraries_bytes, profile.graph_bytes))
    room = cap_bytes(
        budget_bytes=fits.RECOMMEND.budget_bytes(8 << 30),
        reserve_bytes=0,
        held_bytes=outside,
        capacity_bytes=profile.capacity_bytes,
    )
    assert f"{room:,} bytes" in " ".join(page().split())


def test_files_and_folders_exist() -> None:
    missing = [
        name
        for name in set(quoted(page()))
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(/|\.py|\.md|\.yaml|\.json\.gz)", name)
        and not name.startswith(SOURCES_OF_OTHERS)
        and not any(
            (folder / name).exists() for folder in (ROOT, PREDICT, TESTS, ROOT / "studies" / "results")
        )
    ]
    assert missing == []
    for name in re.findall(r"\b20\d\d-\d\d-\d\d-[\w-]+\w", page()):
        assert (ROOT / "studies" / "results" / name / "report.md").exists(), name


def test_tests_and_commands_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", page())
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (TESTS / file).read_text(encoding="utf-8"), f"{file}::{test}"
    for module in re.findall(r"python -m phase8_tune\.([\w.]+)", page()):
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").exists(), module


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page())
    assert targets
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []
