"""Watches a card from outside the process that uses it, in a thread of its own, while one attempt runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from ..machine.nvml import SLOWDOWNS, Card
from ..machine.power import power_source
from ..values.measurement import PowerSource, Telemetry
from .memory import DRIFT_BYTES, Observation

INTERVAL_S = 0.01  # 100 Hz wanted, so that 50 Hz is kept on a busy machine
HEALTH_EVERY = 10  # clocks, temperature and throttling change slowly, and asking costs milliseconds


class CardMonitor:
    """Context manager around one attempt of the worker `worker_pid` on `card`.

    `finish` gives the observation and the telemetry. Without a card it observes nothing and says so.
    `ask_power` tells what the computer runs on, before and after the attempt.
    """

    def __init__(
        self,
        card: Card | None,
        worker_pid: int,
        ask_power: Callable[[], PowerSource | None] = power_source,
    ) -> None:
        self._card = card
        self._ask_power = ask_power
        self._power_before: PowerSource | None = None
        self._worker_pid = worker_pid
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_timed = False
        self._before: int | None = None
        self._peak: int | None = None
        self._after: int | None = None
        self._capacity: int | None = None
        self._is_memory_known = card is not None
        self._process_peak: int | None = None
        self._others: Mapping[int, int | None] | None = None
        self._others_known = True
        self._moved: str | None = None
        self._count = 0
        self._started_s = 0.0
        self._energy_begin_j: float | None = None
        self._energy_j: float | None = None
        self._reasons: set[str] = set()
        self._clocks_mhz: list[int] = []
        self._hottest_c: int | None = None

    def __enter__(self) -> Self:
        self._started_s = time.monotonic()
        self._power_before = self._ask_power()
        if self._card is not None:
            self.sample()
            self._before = self._peak
            self._thread = threading.Thread(target=self._watch, name="nvml-monitor", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def enter_phase(self, phase: str) -> None:
        """The worker entered a phase: energy, clocks and throttling count over the timed samples only."""
        if phase == "timed":
            self._begin_timed()
        elif phase == "finished":
            self._end_timed()

    def _begin_timed(self) -> None:
        with self._lock:
            self._is_timed = True
            self._energy_begin_j = None if self._card is None else self._card.energy_j()

    def _end_timed(self) -> None:
        with self._lock:
            if self._is_timed and self._card is not None:
                self._look_at_health(self._card)  # also where the samples took less than one round
                end_j = self._card.energy_j()
                if end_j is not None and self._energy_begin_j is not None:
                    self._energy_j = end_j - self._energy_begin_j
            self._is_timed = False

    def sample(self) -> None:
        """Look at the card once."""
        with self._lock:
            if self._card is None:
                return
            self._count += 1
            self._look_at_memory(self._card)
            self._look_at_processes(self._card)
            if self._is_timed and self._count % HEALTH_EVERY == 0:
                self._look_at_health(self._card)

    def finish(self) -> tuple[Observation, Telemetry | None]:
        """What was seen, after a last look; the attempt's memory is by now given back."""
        self.__exit__(None, None, None)
        self.sample()
        told = {self._power_before, self._ask_power()} - {None}
        power: PowerSource | None = "battery" if "battery" in told else "ac" if told else None
        if self._card is None:
            return Observation(), None if power is None else Telemetry(power_source=power)
        known = self._is_memory_known
        observation = Observation(
            process_peak_bytes=self._process_peak,
            device_before_bytes=self._before if known else None,
            device_peak_bytes=self._peak if known else None,
            device_after_bytes=self._after if known else None,
            capacity_bytes=self._capacity,
            moved=self._moved or self._released(),
            others_known=self._others_known,
        )
        elapsed_s = time.monotonic() - self._started_s
        telemetry = Telemetry(
            energy_j=self._energy_j,
            sm_clock_mhz=min(self._clocks_mhz, default=None),
            temperature_c=self._hottest_c,
            throttle_reasons=tuple(sorted(self._reasons)),
            samples_per_s=self._count / elapsed_s if elapsed_s > 0 else None,
            power_source=power,
        )
        return observation, telemetry

    def slowdowns(self) -> tuple[str, ...]:
        """The reasons seen during the timed samples that slow a card below what it does on another day."""
        return tuple(sorted(self._reasons & SLOWDOWNS))

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self.sample()

    def _look_at_memory(self, card: Card) -> None:
        memory = card.memory()
        if memory is None:  # the library died: a peak with a hole in it is no peak
            self._is_memory_known = False
            return
        self._capacity = memory.total_bytes
        self._after = memory.used_bytes
        self._peak = max(self._peak or 0, memory.used_bytes)

    def _look_at_processes(self, card: Card) -> None:
        listed = card.processes()
        if listed is None:
            self._others_known = False
            return
        own = listed.get(self._worker_pid)
        if own:
            self._process_peak = max(self._process_peak or 0, own)
        others = {pid: used for pid, used in listed.items() if pid != self._worker_pid}
        # In a container the worker itself may stand here under the host's pid, and its memory moves.
        if self._worker_pid not in listed or any(used is None for used in others.values()):
            self._others_known = False
        first, self._others = self._others, self._others or others
        if first is None or self._moved is not None:
            return
        self._moved = _difference(first, others, are_sizes_comparable=self._worker_pid in listed)

    def _look_at_health(self, card: Card) -> None:
        self._reasons.update(card.throttle_reasons() or ())
        clock = card.sm_clock_mhz()
        if clock is not None:
            self._clocks_mhz.append(clock)
        temperature = card.temperature_c()
        if temperature is not None:
            self._hottest_c = max(self._hottest_c or temperature, temperature)

    def _released(self) -> str | None:
        """The worker gives back only what it took: less in use than before means that another gave back."""
        if not self._is_memory_known or self._before is None or self._after is None:
            return None
        fallen = self._before - self._after
        return f"another process gave back {fallen} bytes of the card" if fallen > DRIFT_BYTES else None


def _difference(
    before: Mapping[int, int | None], now: Mapping[int, int | None], *, are_sizes_comparable: bool
) -> str | None:
    """How the other processes differ from those at the start of the attempt, None where they do not."""
    for pid in sorted(now.keys() - before.keys()):
        return f"process {pid} came to the card during the attempt"
    for pid in sorted(before.keys() - now.keys()):
        return f"process {pid} left the card during the attempt"
    if not are_sizes_comparable:
        return None
    for pid, used in now.items():
        was = before[pid]
        if used is not None and was is not None and abs(used - was) > DRIFT_BYTES:
            return f"process {pid} went from {was} to {used} bytes of the card during the attempt"
    return None
