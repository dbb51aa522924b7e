"""The seam between searching and measuring: what the search asks of whoever measures."""

from __future__ import annotations

from typing import Protocol

from ..values.candidate import Candidate
from ..values.measurement import DeviceInfo, Measurement, Versions
from ..values.outcome import Outcome


class StoppedError(Exception):
    """A measurer was stopped: what it was doing has no result."""


class Measurer(Protocol):
    """Measures candidates one after the other on one device; all but `stop` belongs to one thread."""

    @property
    def device(self) -> DeviceInfo:
        """The device of all measurements. May start a worker.

        Raises: DeviceError where no worker can be started.
        """
        ...

    @property
    def versions(self) -> Versions:
        """The software of all measurements. May start a worker.

        Raises: DeviceError where no worker can be started.
        """
        ...

    def measure(self, candidate: Candidate) -> Measurement:
        """Measure one candidate. Never raises for a candidate that fails: the outcome is data.

        Raises: DeviceError where the device can measure nothing more; StoppedError after `stop`.
        """
        ...

    def stop(self) -> None:
        """From any thread: what is under way ends soon, with StoppedError; nothing is measured any more."""
        ...

    def close(self) -> None:
        """Stop the worker, if any; may be called more than once."""
        ...


def check_measurement(measurement: Measurement, budget_bytes: int) -> Measurement:
    """A measurement that the search can rely on: a success has every objective and keeps the budget.

    One that claims success without a figure is an error of the measurer, one over the budget is over it.
    """
    if measurement.outcome is not Outcome.OK:
        return measurement
    objectives = ("peak_bytes", "parameters", "body_parameters")
    lacking = [name for name in objectives if getattr(measurement, name) is None]
    if not measurement.samples_s or not all(0 < s < float("inf") for s in measurement.samples_s):
        lacking.append("samples_s")
    if lacking:
        message = f"the measurer reported success without {' and '.join(lacking)}"
        return measurement.model_copy(update={"outcome": Outcome.ERROR, "message": message, "samples_s": ()})
    if measurement.peak_bytes is not None and measurement.peak_bytes > budget_bytes:
        message = f"took {measurement.peak_bytes} bytes of a budget of {budget_bytes}"
        return measurement.model_copy(update={"outcome": Outcome.OVER_BUDGET, "message": message})
    return measurement
