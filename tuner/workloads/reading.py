"""A process that loads a workload of the user's own and prints its spec as JSON, or what keeps it from that.

Run as `python -m phase8_tune.tuner.workloads.reading NAME`. What the module prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ..values.errors import UserInputError
from ..values.workload_spec import WorkloadSpec
from .loading import describe_error, load_named
from .spec import to_json

SPEC = "SPEC"
"""What a module of the user's own calls its `WorkloadSpec`."""


def main(name: str) -> int:
    """Print one line of JSON; the exit code."""
    answers = os.dup(1)
    os.dup2(2, 1)
    try:
        found = describe(name)
    except UserInputError as error:
        found = {"problem": str(error)}
    # The border between a user's code and the driver: whatever comes out of it is told.
    except BaseException as error:
        found = {"problem": f"workload: {name!r}: {describe_error(error)}"}
    sys.stdout.flush()
    os.write(answers, (json.dumps(found) + "\n").encode())
    return 0


def describe(name: str) -> dict[str, Any]:
    """The spec of a workload as JSON has it; of a module that says none, one without axes.

    Raises: UserInputError.
    """
    module, found = load_named(name)
    if not callable(found) and not hasattr(found, "prepare"):
        raise UserInputError(
            f"workload: expected {name!r} to be a factory, or to have prepare(candidate, device, seed), "
            f"got {type(found).__name__}"
        )
    said = getattr(module, SPEC, None)
    if said is None:
        return to_json(WorkloadSpec(name=name, title=_title(module)))
    if not isinstance(said, WorkloadSpec):
        raise UserInputError(
            f"workload: expected {SPEC} in the module of {name!r} to be a WorkloadSpec, got "
            f"{type(said).__name__}"
        )
    try:
        return to_json(replace(said, name=name, title=said.title or _title(module)))
    except (ValueError, TypeError) as error:
        raise UserInputError(f"workload: {name!r}: {error}") from None


def _title(module: ModuleType) -> str:
    """What reports call a workload that says nothing: its file, or its module."""
    return Path(module.__file__ or module.__name__).stem


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
