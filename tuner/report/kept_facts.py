"""`report.json`: what a run's report knows beside its records, so that it can be made again anywhere."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Final, Literal

from ..records.results import Results
from ..records.run_directory import RunInfo, RunPaths
from ..search.estimates import read_estimates
from ..search.plan_summary import read_summary
from ..search.skips import Skips
from ..study.definition import load_definition
from ..values.atomic_write import write_atomically
from ..values.errors import UserInputError
from ..values.format_versions import later_json_format
from ..values.measurement import Border, DeviceInfo, Versions
from ..values.shell_words import shell_path
from ..values.timing import Timing
from .facts import RunFacts

FORMAT_VERSION: Final = 1
FILE = "report.json"
"""In the run's folder."""


class KeptFacts(Border):
    """The part of `RunFacts` of the same names that lies nowhere else in a run's folder."""

    format_version: Literal[1] = FORMAT_VERSION
    reserve_bytes: int
    device: DeviceInfo
    versions: Versions
    timing: Timing
    command: str
    missing_versions: tuple[str, ...]
    skips: Skips | None


_KEPT = frozenset(KeptFacts.model_fields) & {field.name for field in fields(RunFacts)}


def keep_facts(facts: RunFacts) -> None:
    """Keep what a report knows in its run's folder. Raises: OSError where that cannot be written."""
    kept = KeptFacts(**{name: getattr(facts, name) for name in _KEPT})
    # Not by pydantic: in a command there may be a file's name that is no text.
    write_atomically(facts.run_root / FILE, json.dumps(kept.model_dump(mode="json"), indent=2) + "\n")


def read_facts(root: Path, info: RunInfo, results: Results) -> RunFacts:
    """What is known of a finished run; of one that keeps no facts, what its records tell.

    Raises: UserInputError for a plan that is not whole, a run in which nothing was measured, a file that
    cannot be read, or one of a later version of this program.
    """
    paths = RunPaths(root=root)
    definition = load_definition(str(paths.definition))
    plan = read_summary(paths.plan)
    if plan is None and info.device_kind == "predicted":
        raise UserInputError(
            f"{root}: expected a whole plan, got one that was interrupted; run its command again"
        )
    kept = _read(root / FILE) or _told(root, results, definition.timing)
    return RunFacts(
        run_root=root,
        study_name=info.study,
        workloads=definition.workloads,
        budget_bytes=info.budget_bytes,
        plan=plan,
        estimates=read_estimates(root),
        **{name: getattr(kept, name) for name in _KEPT},
    )


def _read(path: Path) -> KeptFacts | None:
    text = b""
    try:
        text = path.read_bytes()
        return KeptFacts.model_validate(json.loads(text), strict=False)  # lists are tuples
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # also pydantic's and json's
        if later := later_json_format(text, FORMAT_VERSION):
            raise UserInputError(f"{path}: {later}") from None
        raise UserInputError(
            f"{path}: expected what phase8-tune wrote there, got something else ({type(error).__name__}); "
            "remove it, and the report is made of what the records tell"
        ) from None


def _told(root: Path, results: Results, timing: Timing) -> KeptFacts:
    found = [record.measurement for record in reversed(results.records)]
    device = next((m.device for m in found if m.device is not None), None)
    versions = next((m.versions for m in found if m.versions is not None), None)
    if device is None or versions is None:
        raise UserInputError(f"{root}: expected a run in which something was measured, got none yet")
    return KeptFacts(
        reserve_bytes=0,
        device=device,
        versions=versions,
        timing=timing,
        command=f"phase8-tune report {shell_path(root)}",
        missing_versions=(),
        skips=None,
    )
