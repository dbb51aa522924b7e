"""What is known of a workload by its name: of one that comes with it at once."""

from __future__ import annotations

from ..values.errors import UserInputError
from ..values.nearest import one_of
from ..values.workload_spec import SPECS, WorkloadSpec, known_spec


def spec_of(name: str) -> WorkloadSpec:
    """The spec of a workload.

    Raises: UserInputError, one line, where there is none of that name.
    """
    spec = known_spec(name)
    if spec is None:
        raise UserInputError(f"workload: {one_of(SPECS, name)}")
    return spec
