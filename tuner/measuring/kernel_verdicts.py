"""Which kernel versions still owe their correctness check on a device: what the driver remembers of it."""

from __future__ import annotations

from collections.abc import Sequence

from ..values.candidate import Candidate
from ..values.measurement import DeviceInfo, KernelCheck
from ..values.record import Record

_DEFINITION = "reference"  # what the others are checked against


class Verdicts:
    """The checks that were passed, by GPU, workload, version and precision.

    earlier: the records of the study so far; a check passed in one of them is not repeated.
    """

    def __init__(self, earlier: Sequence[Record] = ()) -> None:
        self._passed: set[tuple[str | None, str, str, str]] = set()
        for record in earlier:
            found = record.measurement
            if found.kernel_check is not None and found.kernel_check.passed and found.device is not None:
                self.note_check(found.device, found.kernel_check)

    def are_owed(self, candidate: Candidate, device: DeviceInfo) -> bool:
        """Whether the candidate's version must be checked before it is timed. On a CPU only the reference
        runs, which has nothing to be checked against."""
        if device.kind != "cuda" or candidate.kernel_version == _DEFINITION:
            return False
        return _key(device, candidate) not in self._passed

    def note_check(self, device: DeviceInfo, passed: KernelCheck | Candidate) -> None:
        """A check was passed, or the candidate's workload has none."""
        self._passed.add(_key(device, passed))


def _key(device: DeviceInfo, of: KernelCheck | Candidate) -> tuple[str | None, str, str, str]:
    return device.uuid, of.workload, of.kernel_version, of.mixed_precision
