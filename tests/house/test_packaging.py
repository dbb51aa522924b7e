"""pyproject.toml names the packages that are on disk, and the wheel would hold every file they need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import phase8_tune
from phase8_tune.tuner.cli import cli
from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.training.settings import load_settings

ROOT = Path(phase8_tune.__file__).resolve().parent
ROOMS = ("kernels", "phase8", "studies", "tuner")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    path = ROOT / "pyproject.toml"
    if not path.exists():
        pytest.skip("phase8_tune is installed from a wheel, without its sources")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_packages_are_the_folders_on_disk(pyproject: dict[str, Any]) -> None:
    found = {"phase8_tune"}
    for room in ROOMS:
        for init in (ROOT / room).rglob("__init__.py"):
            found.add(".".join(("phase8_tune", *init.parent.relative_to(ROOT).parts)))
    named = pyproject["tool"]["setuptools"]["packages"]
    assert sorted(named) == sorted(found)
    assert len(named) == len(set(named))


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert [str(f.relative_to(ROOT)) for f in sorted(folders) if not (f / "__init__.py").exists()] == []


def test_packaged_data_is_named(pyproject: dict[str, Any]) -> None:
    data = pyproject["tool"]["setuptools"]["package-data"]
    assert (ROOT / "py.typed").exists()
    assert data["phase8_tune"] == ["py.typed"]
    assert "*.yaml" in data["phase8_tune.studies"]
    assert list((ROOT / "studies").glob("*.yaml"))


def test_the_version_is_said_once(pyproject: dict[str, Any]) -> None:
    """In the package; the wheel's is made from it, and the changelog begins with it."""
    assert pyproject["project"]["dynamic"] == ["version"]
    assert "version" not in pyproject["project"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "phase8_tune.__version__"}
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", changes, re.M)[0] == phase8_tune.__version__


def test_every_python_that_is_supported_is_classified(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    minors = [int(m) for m in re.findall(r":: 3\.(\d+)'", str(project["classifiers"]))]
    assert project["requires-python"] == f">=3.{minors[0]},<3.{minors[-1] + 1}"
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert "Typing :: Typed" in project["classifiers"]


def test_console_scripts_exist(pyproject: dict[str, Any]) -> None:
    for target in pyproject["project"]["scripts"].values():
        module, _, function = target.partition(":")
        path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
        assert f"def {function}(" in path.read_text(encoding="utf-8")


def test_pins_lie_in_the_open_ranges(pyproject: dict[str, Any]) -> None:
    pins = {
        line.split("==")[0].lower(): line.split("==")[1].split()[0]
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    }
    for requirement in pyproject["project"]["dependencies"]:
        name, _, least = requirement.partition(";")[0].partition(">=")
        pinned = [int(part) for part in pins[name.strip().lower()].split(".")]
        assert pinned >= [int(part) for part in least.strip().split(".")]


def test_the_commands_page_names_every_option_and_its_study_is_valid() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for command in (cli, *cli.commands.values()):
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or f"`{option}" in text
    (study,) = [
        block.partition("```")[0] for block in text.split("```yaml\n")[1:] if block.startswith("name:")
    ]
    assert parse_definition(study, "commands.md").axes is not None


def test_the_settings_that_the_commands_page_shows_load(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    (shown,) = [
        block.partition("```")[0] for block in text.split("```yaml\n")[1:] if block.startswith("d_model:")
    ]
    path = tmp_path / "small.yaml"
    path.write_text(shown.partition("…")[0], encoding="utf-8")
    assert load_settings(path).model == "small"
