"""Which kernel versions still owe their correctness check on a device: what the driver remembers of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from ..machine.cache_folder import warn_not_kept, writable_cache_folder
from ..machine.sources import sources_digest
from ..values.atomic_write import write_atomically
from ..values.candidate import Candidate
from ..values.measurement import DeviceInfo, KernelCheck, Versions
from ..values.record import Record

_NAME = "checks"
_ROOMS = ("kernels", "tuner/worker/kernel_check.py")
"""What a check's result depends on, beside the GPU and the software below."""


class _Key(NamedTuple):
    """What a check holds for."""

    uuid: str | None
    workload: str
    version: str
    precision: str
    with_optimizer: bool


class Verdicts:
    """The checks that were passed, by GPU, workload, version, precision, and whether with the optimizer.

    earlier: the records of the study so far; a check passed in one of them is not repeated.
    """

    def __init__(self, earlier: Sequence[Record] = ()) -> None:
        self._passed: set[_Key] = set()
        for record in earlier:
            found = record.measurement
            if found.kernel_check is not None and found.kernel_check.passed and found.device is not None:
                self.note_check(found.device, found.kernel_check)

    def are_owed(self, candidate: Candidate, device: DeviceInfo) -> bool:
        """Whether the candidate's version must be checked before it is timed. On a CPU only the reference
        runs, which has nothing to be checked against."""
        if device.kind != "cuda" or not candidate.spec.is_checked or candidate.is_reference:
            return False
        return _key(device, candidate) not in self._passed

    def note_check(self, device: DeviceInfo, passed: KernelCheck | Candidate) -> None:
        """A check was passed, or the candidate's workload has none."""
        key = _key(device, passed)
        self._passed |= {key, key._replace(with_optimizer=False)}


class KeptChecks:
    """Checks that were passed in any study, in the user's cache folder: they hold for one GPU, its driver,
    torch, triton and these kernels, and are made again when one of them is another.

    folder: where they lie; None for the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._given = folder

    def read(self, candidate: Candidate, device: DeviceInfo, versions: Versions) -> KernelCheck | None:
        """The check that a candidate's version passed here; None where there was none."""
        try:
            check = KernelCheck.model_validate_json(self._path(candidate, device, versions).read_bytes())
        except (OSError, ValidationError):  # none yet, or a damaged file: checked again
            return None
        return check if check.passed else None

    def write(self, check: KernelCheck, candidate: Candidate, device: DeviceInfo, versions: Versions) -> None:
        """Keep a check that was passed; where it cannot be written, which is said, it is made again."""
        path = self._path(candidate, device, versions)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, check.model_dump_json() + "\n")
        except OSError as error:
            warn_not_kept(path.parent, error)

    def _path(self, candidate: Candidate, device: DeviceInfo, versions: Versions) -> Path:
        software = versions.model_dump(exclude={"phase8_tune", "python"})
        parts = [_key(device, candidate), device.name, software, sources_digest(_ROOMS)]
        name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
        return (writable_cache_folder(_NAME) if self._given is None else self._given) / f"{name}.json"


def _key(device: DeviceInfo, of: KernelCheck | Candidate) -> _Key:
    if isinstance(of, Candidate):
        return _Key(device.uuid, of.workload, of.version, of.precision, of.has_own_optimizer)
    return _Key(device.uuid, of.workload, of.kernel_version, of.mixed_precision, of.optimizer)
