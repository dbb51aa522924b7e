"""An installation that root made: what this user may not read is named, and nothing else is in the way."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from phase8_tune.tuner.commands.entry import children_import_alike
from phase8_tune.tuner.machine.installation import find_unreadable

from .commands import SEARCH, environment, faked, run, write_study

NOBODY = 65534


@pytest.fixture
def installed() -> Iterator[Path]:
    """A package with a library and a file of data, and a user who is not root."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "site-packages")
        (root / "torch" / "lib").mkdir(parents=True)
        for name in ("torch/__init__.py", "torch/lib/libtorch.so.2", "torch/notes.txt"):
            (root / name).touch()
        os.chmod(folder, 0o755)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        yield root
        os.seteuid(user)


def forbid(path: Path) -> None:
    """Take all rights from it, as the owner may."""
    user = os.geteuid()
    os.seteuid(os.getuid())
    path.chmod(0)
    os.seteuid(user)


def test_all_is_readable(installed: Path) -> None:
    forbid(installed / "torch" / "notes.txt")  # nothing imports that
    assert find_unreadable([installed, installed / "none"]) is None


@pytest.mark.parametrize("name", ["torch/__init__.py", "torch/lib/libtorch.so.2", "torch/lib", "torch", "."])
def test_what_may_not_be_read_is_named(installed: Path, name: str) -> None:
    forbid(installed / name)
    found = find_unreadable([installed])
    assert found is not None
    assert found.startswith(f"this user may not read {installed / name} (")
    assert found.endswith(f"chmod -R a+rX {installed}")


def test_a_folder_above_that_may_not_be_entered_is_named(installed: Path) -> None:
    forbid(installed)
    found = find_unreadable([installed / "torch"])
    assert found is not None
    assert f"may not enter {installed} (" in found
    assert found.endswith(f"chmod a+x {installed}")


def test_a_file_of_the_users_does_not_stand_in_for_pythons(tmp_path: Path) -> None:
    """The worker is `python -m`, which looks into the present folder first; the command does not."""
    write_study(tmp_path)
    for name in ("json.py", "random.py"):
        (tmp_path / name).write_text("raise SystemExit('this is the user\\'s')\n", encoding="utf-8")
    done = run(faked(*SEARCH), tmp_path, env=environment())
    assert done.returncode == 0, done.stderr


def test_where_the_command_looks_there_its_processes_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    with children_import_alike():
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert "PYTHONSAFEPATH" not in os.environ
    monkeypatch.setattr(sys, "path", [os.getcwd()])  # python -m phase8_tune.tuner.cli
    with children_import_alike():
        assert "PYTHONSAFEPATH" not in os.environ
