"""The devices of this computer, side by side: a thread for each, and one queue for what they found."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ..values.candidate import Candidate
from ..values.errors import DeviceError
from ..values.interrupt import POLL_S
from ..values.measurement import DeviceInfo, Measurement, Versions
from .executor import Finished
from .measurer import Measurer, StoppedError


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    device: DeviceInfo
    versions: Versions


_Report = _Ready | Measurement | BaseException


class LocalExecutor:
    """An `Executor` of measurers by the names of their devices; a context manager that starts and stops them.

    Everything but the measuring itself happens in the thread that made it. A device that raises DeviceError
    is set aside, `on_loss` is told a sentence about it, and the others go on.

    A worker lives as long as the thread that started it, so every measurer has one thread from first to last.
    """

    def __init__(self, measurers: Mapping[str, Measurer], *, on_loss: Callable[[str], None]) -> None:
        self._measurers = dict(measurers)
        self._on_loss = on_loss
        self._orders: dict[str, queue.SimpleQueue[Candidate | None]] = {
            name: queue.SimpleQueue() for name in measurers
        }
        self._reports: queue.SimpleQueue[tuple[str, _Report]] = queue.SimpleQueue()
        self._arrived = threading.Semaphore(0)  # counts the reports
        # Daemons: a second interrupt ends the driver at once, and the workers end with it.
        self._threads = [
            threading.Thread(target=self._serve, args=(name,), daemon=True) for name in measurers
        ]
        self._first: _Ready | None = None
        self._free: list[str] = []
        self._running: dict[str, Candidate] = {}
        self._lost: set[str] = set()
        self._is_stopped = False

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_stopped:  # or an interrupt has ended the wait for it, and there shall be no other
            self.stop()

    @property
    def device(self) -> DeviceInfo:
        """What the devices have in common: of several it has no UUID. Waits for the first that is ready.

        Raises: DeviceError where all fail.
        """
        device = self._await_first().device
        return device if len(self._measurers) == 1 else device.model_copy(update={"uuid": None})

    @property
    def versions(self) -> Versions:
        """The software of all measurements. Waits for the first device that is ready.

        Raises: DeviceError where all fail.
        """
        return self._await_first().versions

    @property
    def free(self) -> tuple[str, ...]:
        """The devices that are ready and have nothing to do, in the order given to the pool."""
        return tuple(name for name in self._measurers if name in self._free)

    @property
    def working(self) -> tuple[str, ...]:
        """The devices that are ready, busy or not, and were not set aside."""
        return tuple(name for name in self._measurers if name in self._free or name in self._running)

    @property
    def running(self) -> Mapping[str, Candidate]:
        """What is being measured now, by the device."""
        return dict(self._running)

    def hand_out(self, candidate: Candidate, device: str) -> None:
        """Have a free device measure a candidate."""
        self._free.remove(device)
        self._running[device] = candidate
        self._orders[device].put(candidate)

    def wait(self) -> None:
        """Wait until there is something to take. Takes nothing: an interrupt of the wait loses nothing."""
        while not self._arrived.acquire(timeout=POLL_S):
            pass

    def take(self) -> Finished | None:
        """What was waited for; None where it is only that a device got ready or was lost while idle.

        Raises: DeviceError where no device is left; whatever else was raised in a measurer's thread.
        """
        name, report = self._reports.get()
        if isinstance(report, _Ready):
            self._first = self._first or report
            self._free.append(name)
            return None
        if isinstance(report, Measurement):
            self._free.append(name)
            return self._finish(name, report)
        if not isinstance(report, DeviceError):
            raise report
        self._lose(name, report)
        return self._finish(name, None) if name in self._running else None

    def stop(self) -> tuple[Finished, ...]:
        """Stop all measurers and wait for them; what they had finished by then."""
        self._is_stopped = True
        for name, measurer in self._measurers.items():
            measurer.stop()
            self._orders[name].put(None)
        for thread in self._threads:
            while thread.is_alive():
                thread.join(POLL_S)
        finished = []
        while not self._reports.empty():
            name, report = self._reports.get()
            if isinstance(report, Measurement):
                finished.append(self._finish(name, report))
        return tuple(finished)

    def _await_first(self) -> _Ready:
        while self._first is None:
            self.wait()
            self.take()
        return self._first

    def _finish(self, name: str, measurement: Measurement | None) -> Finished:
        return Finished(device=name, candidate=self._running.pop(name), measurement=measurement)

    def _lose(self, name: str, error: DeviceError) -> None:
        self._lost.add(name)
        left = len(self._measurers) - len(self._lost)
        if len(self._measurers) == 1:
            raise error
        if left == 0:
            raise DeviceError(f"all {len(self._measurers)} GPUs failed; the last: {error}") from error
        goes_on = "1 other goes on" if left == 1 else f"{left} others go on"
        self._on_loss(f"{name} is set aside, {goes_on}: {error}")

    def _report(self, name: str, report: _Report) -> None:
        self._reports.put((name, report))
        self._arrived.release()

    def _serve(self, name: str) -> None:
        """A measurer's thread."""
        measurer, orders = self._measurers[name], self._orders[name]
        try:
            self._report(name, _Ready(device=measurer.device, versions=measurer.versions))
            while (candidate := orders.get()) is not None:
                self._report(name, measurer.measure(candidate))
        except StoppedError:
            pass
        except BaseException as error:  # whatever it is, the driver's thread is to know
            self._report(name, error)
        finally:
            measurer.close()
