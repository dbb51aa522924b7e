"""The seam between a search and whoever measures for it: several devices side by side, one driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..values.candidate import Candidate
from ..values.measurement import DeviceInfo, Measurement, Versions


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What became of a candidate handed to a device; no measurement: the device was lost in the middle."""

    device: str
    candidate: Candidate
    measurement: Measurement | None


class Executor(Protocol):
    """Devices by their names, each of which measures one candidate at a time.

    All of it belongs to the thread of the search: it hands out candidates while devices are free, and takes
    in what they found in the order in which it is found. Devices may come and go meanwhile.
    """

    @property
    def device(self) -> DeviceInfo:
        """What the devices have in common: of several it has no UUID. Waits for the first that is ready.

        Raises: DeviceError where all fail.
        """
        ...

    @property
    def versions(self) -> Versions:
        """The software of all measurements. Waits for the first device that is ready.

        Raises: DeviceError where all fail.
        """
        ...

    @property
    def free(self) -> tuple[str, ...]:
        """The devices that are ready and have nothing to do."""
        ...

    @property
    def working(self) -> tuple[str, ...]:
        """The devices that are ready, busy or not."""
        ...

    @property
    def running(self) -> Mapping[str, Candidate]:
        """What is being measured now, by the device."""
        ...

    def hand_out(self, candidate: Candidate, device: str) -> None:
        """Have a free device measure a candidate."""
        ...

    def wait(self) -> None:
        """Wait until there is something to take. Takes nothing: an interrupt of the wait loses nothing."""
        ...

    def take(self) -> Finished | None:
        """What was waited for; None where no candidate ended, as where a device got ready or was lost idle.

        Raises: DeviceError where no device is left; whatever else was raised where it was measured.
        """
        ...

    def stop(self) -> tuple[Finished, ...]:
        """Stop all devices and wait for them; what they had finished by then."""
        ...
