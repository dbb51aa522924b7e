"""What a command asks of the place where it measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ..measuring.executor import Executor
from ..measuring.gauge import Gauge
from ..measuring.reserve import OtherUse
from ..predict.tracers import Tracers
from ..study.definition import StudyDefinition
from ..values.measurement import DeviceKind
from ..values.record import Record
from ..values.timing import Timing


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is measured, and how; the same for every device.

    root: the run's folder. earlier: the run's records so far. outside_bytes: what a process is known to take
    of the card beside torch's allocator in the end.
    """

    budget_bytes: int
    reserve_bytes: int
    root: Path
    timing: Timing
    earlier: Sequence[Record]
    outside_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CardName:
    """The GPU of a study, by which its figures are found."""

    title: str
    total_bytes: int | None


class Devices(Protocol):
    """Devices of one kind that can be used."""

    @property
    def kind(self) -> Literal["cuda", "cpu"]: ...

    @property
    def total_bytes(self) -> int:
        """The memory of the smallest.

        Raises: DeviceError where there is none.
        """
        ...

    @property
    def owner(self) -> str:
        """What a budget is compared with, for the user: `this GPU has`."""
        ...

    def describe(self) -> str:
        """For people, in a few words."""
        ...

    def card(self) -> CardName | None:
        """None where no GPU tells its name."""
        ...

    def other_uses(self) -> Sequence[OtherUse | None]:
        """What others have of each GPU now; nothing on a CPU."""
        ...

    def tracers(self) -> Tracers:
        """What traces lines beside the search."""
        ...

    def executor(self, job: Job, tell: Callable[[str], None]) -> AbstractContextManager[Executor]:
        """Whoever measures; `tell` has a line about a device that is lost."""
        ...

    def gauges(self) -> Mapping[str, Gauge]:
        """What the devices of the executor show, by their names, as far as that is told here."""
        ...


class Place(Protocol):
    """Where a study may be measured; nothing is in use yet."""

    @property
    def kind(self) -> DeviceKind:
        """predicted: nothing can be measured here."""
        ...

    def opened(
        self, definition: StudyDefinition, *, begun_on: str | None, tell: Callable[[str], None]
    ) -> AbstractContextManager[Devices]:
        """The devices that serve a study, let go of after the block.

        begun_on: the name of the device that the run was begun on, None for a new one. tell: has a line about
        what does not serve.
        Raises: UserInputError where there is none.
        """
        ...
