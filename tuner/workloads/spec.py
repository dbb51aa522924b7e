"""What is known of a workload by its name: of one that comes with it at once, of a user's own from a child
process that loads it, as its module may load torch."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ..values.axes import Axis
from ..values.errors import UserInputError
from ..values.format_versions import FORMAT_KEY, later_format
from ..values.workload_spec import WorkloadSpec, known_spec, note_spec
from .loading import is_own

_READING_S = 300.0
"""A module that loads for longer is given up."""
_KINDS: dict[str, type[str] | type[int] | type[float] | type[bool]] = {
    kind.__name__: kind for kind in (str, int, float, bool)
}
_PLAIN = ("name", "title", "items", "items_axis", "version_axis", "reference", "is_checked")
_OF_AXIS = (
    *("name", "default", "values", "minimum", "maximum", "searched", "is_ordered", "is_cell_key"),
    *("is_of_model", "is_later", "title", "word", "phrase", "is_quiet", "plain"),
)
FORMAT_VERSION: Final = 1
SPECS_FILE: Final = "workloads.json"
"""In a run's folder: what was known of workloads of the user's own."""


def check_needs(spec: WorkloadSpec) -> None:
    """Raises: UserInputError where what a workload builds its models with is not installed."""
    missing = [module for module in spec.needs if importlib.util.find_spec(module) is None]
    if missing:
        raise UserInputError(
            f"--workload {spec.name}: expected {' and '.join(missing)} to be installed, found none; "
            f"pip install 'phase8-tune[{spec.name}]'"
        )


def spec_of(name: str) -> WorkloadSpec:
    """The spec of a workload.

    Raises: UserInputError, one line, where there is none of that name, or where its module cannot be loaded.
    """
    spec = known_spec(name)
    if spec is None:
        spec = _read_own(name)
        note_spec(spec)
    return spec


def _read_own(name: str) -> WorkloadSpec:
    command = [sys.executable, "-m", "phase8_tune.tuner.workloads.reading", name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_READING_S, check=False)
    except subprocess.TimeoutExpired:
        raise UserInputError(
            f"workload: expected {name!r} to be loaded within {_READING_S:.0f} s, it was not; do no work "
            "where its module is imported"
        ) from None
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        problem = found.get("problem")
    except (IndexError, ValueError, AttributeError):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        problem = f"workload: loading {name!r} ended the process (exit code {done.returncode})" + (
            f": {said[-1]}" if said else ""
        )
    if problem is not None:
        raise UserInputError(problem)
    return from_json(found)


def to_json(spec: WorkloadSpec) -> dict[str, Any]:
    """A spec without functions as JSON has it.

    Raises: ValueError for one that has functions or an axis of parts, or axes that once were truths or have
    words for single values, as only what comes with it may.
    """
    functions = (spec.read_model, spec.model_size, spec.parameters, spec.position_parameters, spec.installed)
    if spec.obstacle is not None or any(function is not None for function in functions):
        raise ValueError(f"SPEC of {spec.name}: expected one without functions")
    if spec.parts_axis is not None:
        raise ValueError(f"SPEC of {spec.name}: expected one without parts_axis, got {spec.parts_axis}")
    if special := [axis.name for axis in spec.axes if axis.flags or axis.said]:
        raise ValueError(f"SPEC of {spec.name}: expected axes without flags and said, got {special[0]}")
    axes = [
        {"kind": axis.kind.__name__} | {name: getattr(axis, name) for name in _OF_AXIS} for axis in spec.axes
    ]
    models = {"models": list(spec.models), "searched_models": list(spec.searched_models)}
    return {name: getattr(spec, name) for name in _PLAIN} | models | {"axes": axes}


def from_json(data: dict[str, Any]) -> WorkloadSpec:
    """Inverse of `to_json`."""
    axes = [
        Axis(
            **(
                axis
                | {"kind": _KINDS[axis["kind"]]}
                | {name: tuple(axis[name]) for name in ("values", "searched")}
            )
        )
        for axis in data["axes"]
    ]
    plain = {name: data[name] for name in _PLAIN}
    return WorkloadSpec(
        axes=tuple(axes),
        models=tuple(data["models"]),
        searched_models=tuple(data["searched_models"]),
        **plain,
    )


def kept_specs(specs: Sequence[WorkloadSpec]) -> str | None:
    """The text of `SPECS_FILE` for the workloads of the user's own; None where there are none."""
    own = [to_json(spec) for spec in specs if is_own(spec.name)]
    return json.dumps({FORMAT_KEY: FORMAT_VERSION, "workloads": own}, indent=1) + "\n" if own else None


def note_kept_specs(folder: Path) -> None:
    """Know the workloads of a run's folder again, without their modules.

    Raises: UserInputError where the file is broken.
    """
    path = folder / SPECS_FILE
    try:
        kept = json.loads(path.read_bytes())
        if later := later_format(kept, FORMAT_VERSION):
            raise UserInputError(f"{path}: {later}")
        specs = [from_json(spec) for spec in kept["workloads"]]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserInputError(
            f"{path}: expected what was known of the run's workloads ({error}); restore the file"
        ) from None
    for spec in specs:
        if known_spec(spec.name) is None:
            note_spec(spec)
