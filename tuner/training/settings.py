"""The settings file that the tuner recommends and `phase8-train` reads: strict, and free of torch.

It begins with d_model, n_layers, n_seq and batch_size; those four alone are a valid file for a size that is
a preset. `measured` or `predicted` says where the recommendation comes from; nothing is computed from either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ..values.candidate import DEFAULT_WORKLOAD
from ..values.errors import UserInputError
from ..values.format_versions import later_format
from ..values.yaml_reading import explain, parse_mapping, read_text_file, shown
from ..workloads.settings import LATER_FORMAT, TrainingSettings, settings_class, trained_workloads

FORMAT_VERSION: Final = LATER_FORMAT
"""Of what earlier versions do not know (`TrainingSettings.is_later`); else 3, and 2 of Phase 8."""


def load_settings(path: Path) -> TrainingSettings:
    """Read and check a settings file.

    Raises: UserInputError, one line, where the file is missing, unreadable, not understood, or made by a
    later version of this program.
    """
    data = parse_mapping(read_text_file(path, "settings file"), str(path))
    if later := later_format(data, FORMAT_VERSION):
        raise UserInputError(f"{path}: {later}")
    return to_settings(data, str(path))


def to_settings(data: Mapping[str, Any], source: str) -> TrainingSettings:
    """The settings that a mapping describes. source: what errors begin with.

    Raises: UserInputError, one line, for one that is not understood.
    """
    workload = data.get("workload", DEFAULT_WORKLOAD)
    kind = settings_class(workload) if isinstance(workload, str) else None
    if kind is None:
        known = " or ".join(map(repr, trained_workloads()))
        raise UserInputError(f"{source}: workload: expected {known}, got {shown(workload)}")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise explain(error, source, kind) from None
