"""What a plan decided, in short: `plan.json` of its run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from ..predict.lines import WORKLOADS
from ..predict.prediction import Predictor
from ..predict.store import code_version
from ..values.atomic_write import write_atomically
from ..values.errors import UserInputError
from ..values.format_versions import later_json_format
from ..values.measurement import Border
from ..workloads.sources import workload_sources

PLAN_FORMAT_VERSION: Final = 1


class PlanSummary(Border):
    """What a plan decided, as `plan.json` holds it; the file is written last, so it says the plan is whole.

    `fit` of `configurations` fit with `margin` to spare. `basis` names what the figures follow from: the
    code, the card's figures and the reserve.
    """

    format_version: Literal[1] = PLAN_FORMAT_VERSION
    configurations: int
    fit: int
    margin: float
    basis: str


def basis_of(predictor: Predictor, workloads: Iterable[str]) -> str:
    """A digest of all that the figures of a plan follow from, beside its study and budget."""
    parts = [code_version(), predictor.profile.model_dump_json(), str(predictor.reserve_bytes)]
    parts += [
        workload_sources(name) for name in workloads if name not in WORKLOADS
    ]  # theirs are in the first
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def read_summary(path: Path) -> PlanSummary | None:
    """The summary of a plan that is whole; None where there is none yet.

    Raises: UserInputError for a file that is not a summary, or one of a later version of this program.
    """
    text = b""
    try:
        text = path.read_bytes()
        return PlanSummary.model_validate_json(text)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        if later := later_json_format(text, PLAN_FORMAT_VERSION):
            raise UserInputError(f"{path}: {later}") from None
        first = str(error).splitlines()[0]
        raise UserInputError(
            f"{path}: expected a plan's summary as it was written, got something else ({first}); "
            "remove this run directory, or name another with --run"
        ) from None


def write_summary(path: Path, summary: PlanSummary) -> None:
    """Raises: OSError."""
    write_atomically(path, summary.model_dump_json(indent=2) + "\n")
