"""Finds what a workload's name stands for: what comes with it, a user's file, a module, an entry point."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from ..values.errors import UserInputError
from ..values.nearest import one_of

GROUP = "phase8_tune.workloads"
"""Entry points of this group are workloads, by their names."""
WORKLOADS = {
    "phase8": "phase8_tune.tuner.builtin.phase8.workload:WORKLOAD",
    "transformer": "phase8_tune.tuner.builtin.transformer.training:build",
    "hf": "phase8_tune.tuner.builtin.hf.training:build",
}
_PREFIX = "phase8_tune_own_"
_ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(_ROOT / folder for folder in ("kernels", "phase8", "tuner"))


def is_own(name: str) -> bool:
    """Whether a workload is not one that comes with it."""
    return name not in WORKLOADS


def place_of_name(name: str) -> str:
    """The file or the module that a name begins with; empty where it has none."""
    return _target(name).rpartition(":")[0]


def load_named(name: str) -> tuple[ModuleType, object]:
    """The module in which a workload lies, and what it has under its name.

    Raises: UserInputError, one line, where there is none, or where importing it raises: then with the file
    and the line of the user's code.
    """
    place, colon, attribute = _target(name).rpartition(":")
    if not colon or not place or not attribute:
        raise UserInputError(
            f"workload: {one_of(WORKLOADS, name)}; your own is FILE.py:FACTORY or MODULE:FACTORY"
        )
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except UserInputError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's own code does
        if isinstance(error, ModuleNotFoundError) and place_in_own_code(error) is None:
            hint = "put its folder on PYTHONPATH"
            raise UserInputError(f"workload: {name!r} cannot be imported ({error}); {hint}") from error
        raise UserInputError(f"workload: {name!r} cannot be imported: {describe_error(error)}") from error
    try:
        return module, getattr(module, attribute)
    except AttributeError as error:
        raise UserInputError(f"workload: {name!r} does not exist ({error})") from error


def _target(name: str) -> str:
    if name in WORKLOADS:
        return WORKLOADS[name]
    found = None if ":" in name else _entry_point(name)
    return name if found is None else found.value


def _entry_point(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=GROUP, name=name)), None)


def _load_file(path: Path) -> ModuleType:
    """The module in a file, whose folder can be imported from too."""
    if not path.is_file():
        raise UserInputError(f"workload: expected a Python file, got {path}, which is none; name another")
    # A name of its own: a file may be called like a module of Python's
    folder, name = str(path.resolve().parent), f"{_PREFIX}{path.stem}"
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules[name] = module  # as an import does: dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def place_in_own_code(error: BaseException) -> str | None:
    """`my_model.py:12`: the last line of a user's own code that an error went through; None where it went
    through none."""
    inner = error.__cause__
    if inner is not None and (place := place_in_own_code(inner)) is not None:
        return place
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own_file(frame.filename)]
    return f"{_shown(own[-1].filename)}:{own[-1].lineno}" if own else None


def _is_own_file(filename: str) -> bool:
    path = Path(filename)
    library = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), *_OURS)
    is_code = path.suffix == ".py" and path.is_file()
    return is_code and not any(path.resolve().is_relative_to(folder) for folder in library)


def _shown(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename


def describe_error(error: BaseException) -> str:
    """One line: what was raised, and where in a user's own code."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    place = place_in_own_code(error)
    what = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return what if place is None else f"{what} ({place})"
