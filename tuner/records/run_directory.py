"""A run's directory: what lies where, whose it is, and that only one driver works in it.

    runs/<name>/run.json       format version, study, its digest, budget, device, when it was made
                study.yaml     the definition as the user gave it
                records.jsonl  the journal: the record of truth (see `journal`)
                study.db       the same as an ordinary Optuna study
                workloads.json what was known of workloads of the user's own, where it has any
                plan.json      of a plan only: what was decided, written once everything is
                lock           held by the driver, with its process id

Imports no Optuna, so that reports can be made from a directory alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from pydantic import ValidationError

from ..machine.lock import LockedError, ProcessLock
from ..study.definition import StudyDefinition
from ..values.atomic_write import write_atomically
from ..values.errors import UserInputError
from ..values.format_versions import later_json_format
from ..values.measurement import Border, DeviceInfo, DeviceKind
from ..workloads.spec import SPECS_FILE, kept_specs, note_kept_specs
from .agreement import check_agreement

FORMAT_VERSION: Final = 1


class RunInfo(Border):
    """What `run.json` holds: to which study, budget and device the records of a run belong."""

    format_version: Literal[1]
    study: str
    definition_digest: str
    budget_bytes: int
    device_kind: DeviceKind
    device_name: str
    created_at: str  # UTC, ISO 8601


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPaths:
    """Where the files of a run lie."""

    root: Path

    @property
    def info(self) -> Path:
        return self.root / "run.json"

    @property
    def definition(self) -> Path:
        return self.root / "study.yaml"

    @property
    def journal(self) -> Path:
        return self.root / "records.jsonl"

    @property
    def database(self) -> Path:
        return self.root / "study.db"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"


def read_run_info(root: Path) -> RunInfo:
    """The `run.json` of a run directory; from then on its workloads are known, those of the user's own too.

    Raises: UserInputError where `root` is not a run directory, or one of a later version of this program.
    """
    path = RunPaths(root=root).info
    note_kept_specs(root)
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserInputError(
            f"{root}: expected a run directory (with run.json), got none; name one"
        ) from None
    except OSError as error:
        raise UserInputError(f"{path}: expected a readable file, got: {error.strerror}") from None
    try:
        return RunInfo.model_validate_json(text)
    except ValidationError as error:
        if later := later_json_format(text, FORMAT_VERSION):
            raise UserInputError(f"{path}: {later}") from None
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserInputError(
            f"{path}: {where}: expected what format {FORMAT_VERSION} holds there ({first['msg']}); "
            "use the version of phase8-tune that made this run, or a new run directory"
        ) from None


def check_run_directory(root: Path, definition: StudyDefinition, budget_bytes: int) -> None:
    """See early, before any worker starts, that a study may run in `root`: new, empty, or its own run.

    Raises: UserInputError that says what to do.
    """
    try:
        is_other_file = root.exists() and not root.is_dir()
    except OSError as error:  # a folder that may not be entered, a name too long
        raise UserInputError(
            f"{root}: expected a folder for the run, got: {error.strerror}; name another run directory"
        ) from None
    if is_other_file:
        raise UserInputError(f"{root}: expected a folder for the run, got a file; name another")
    paths = RunPaths(root=root)
    if paths.info.exists():
        info = read_run_info(root)
        if info.study != definition.name or info.definition_digest != definition.digest():
            raise UserInputError(
                f"{root}: expected a run of this study {definition.name}, got one of "
                + (
                    f"study {info.study}"
                    if info.study != definition.name
                    else "another version of it, with other models, axes or timing"
                )
                + "; name another run directory, or remove this one"
            )
        if info.budget_bytes != budget_bytes:
            raise UserInputError(
                f"{root}: expected a run with the budget of {budget_bytes} bytes, got one "
                f"with {info.budget_bytes}; give that budget, or name another run directory"
            )
        check_agreement(root, paths.journal, paths.database)
    elif paths.journal.exists() or paths.database.exists():
        raise UserInputError(
            f"{root}: expected a new folder or a run directory, got records without run.json; "
            "restore it, or name another run directory"
        )


class RunDirectory:
    """An open run directory, locked against a second driver until it is closed."""

    def __init__(self, root: Path, lock: ProcessLock, info: RunInfo) -> None:
        self.paths = RunPaths(root=root)
        self.info = info
        self._lock = lock

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        definition: StudyDefinition,
        definition_text: str | None,
        budget_bytes: int,
        device: DeviceInfo,
    ) -> Self:
        """Make the directory, or go on in the one that this study left; `definition_text` is copied into it
        (None: the definition is written out).

        Raises: UserInputError for a directory of another study, budget or device, one that another driver is
        using, and one that cannot be written.
        """
        check_run_directory(root, definition, budget_bytes)
        paths = RunPaths(root=root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = _lock(paths.lock)
        except OSError as error:
            raise UserInputError(
                f"{root}: expected a folder that can be written, got: {error.strerror}; "
                "name another run directory"
            ) from None
        try:
            # Again under the lock: another driver may have made the run in between.
            check_run_directory(root, definition, budget_bytes)
            return cls(root, lock, _claim(paths, definition, definition_text, budget_bytes, device))
        except OSError as error:
            lock.close()
            raise UserInputError(
                f"{root}: expected a folder that can be written, got: {error.strerror}; "
                "make room, or name another run directory"
            ) from None
        except BaseException:
            lock.close()
            raise

    def close(self) -> None:
        """Let go of the lock; may be called more than once."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(path: Path) -> ProcessLock:
    try:
        return ProcessLock.take(path)
    except LockedError as error:
        raise UserInputError(
            f"{path.parent}: expected to be the only one in this run directory, got process {error.owner} "
            "there; wait for it, stop it, or name another run directory"
        ) from None


def _claim(
    paths: RunPaths,
    definition: StudyDefinition,
    definition_text: str | None,
    budget_bytes: int,
    device: DeviceInfo,
) -> RunInfo:
    if paths.info.exists():
        info = read_run_info(paths.root)
        if (info.device_kind, info.device_name) != (device.kind, device.name):
            raise UserInputError(
                f"{paths.root}: expected a run on this device ({device.kind}: {device.name}), got one on "
                f"{info.device_kind}: {info.device_name}; name another run directory"
            )
        return info
    info = RunInfo(
        format_version=FORMAT_VERSION,
        study=definition.name,
        definition_digest=definition.digest(),
        budget_bytes=budget_bytes,
        device_kind=device.kind,
        device_name=device.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_atomically(paths.definition, definition_text or definition.to_yaml())
    if kept := kept_specs(definition.specs):
        write_atomically(paths.root / SPECS_FILE, kept)
    # Last, because this file is what makes a folder a run directory.
    write_atomically(paths.info, info.model_dump_json(indent=2) + "\n")
    return info
