"""NVML and the monitor against a stand-in library that refuses, forgets and dies."""

from __future__ import annotations

import pytest

from phase8_tune.tuner.machine.nvml import Card, Nvml, open_nvml
from phase8_tune.tuner.measuring.monitor import INTERVAL_S, CardMonitor

from ..fakes.nvml import MIB, FakeNvml

OWN, OTHER = 100, 200


def opened(library: FakeNvml) -> Nvml:
    found = open_nvml(library).nvml
    assert found is not None
    return found


def card_of(library: FakeNvml) -> Card:
    card = opened(library).find(library.uuid)
    assert card is not None
    return card


def test_missing() -> None:
    found = open_nvml(FakeNvml(refused={"nvmlInit"}))
    assert found.nvml is None
    assert "Not Supported" in found.reason


def test_card_is_found_by_uuid_only() -> None:
    nvml = opened(FakeNvml())
    assert nvml.find("GPU-other") is None
    assert [card.uuid for card in nvml.cards()] == ["GPU-fake"]
    assert nvml.names() == ("fake card",)
    assert nvml.driver_version() == "570.1"


QUESTIONS = {
    "memory": "nvmlDeviceGetMemoryInfo",
    "driver_bytes": "nvmlDeviceGetMemoryInfo_v2",
    "drives_display": "nvmlDeviceGetDisplayActive",
    "processes": "nvmlDeviceGetComputeRunningProcesses",
    "graphics_processes": "nvmlDeviceGetGraphicsRunningProcesses",
    "name": "nvmlDeviceGetName",
    "energy_j": "nvmlDeviceGetTotalEnergyConsumption",
    "sm_clock_mhz": "nvmlDeviceGetClockInfo",
    "temperature_c": "nvmlDeviceGetTemperature",
    "throttle_reasons": "nvmlDeviceGetCurrentClocksEventReasons",
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_refused_or_missing_figure_is_none(question: str) -> None:
    library = FakeNvml()
    card = card_of(library)
    assert getattr(card, question)() is not None
    library.refused = {QUESTIONS[question]}
    assert getattr(card, question)() is None
    library.refused, library.absent = set(), {QUESTIONS[question]}
    assert getattr(card, question)() is None


@pytest.mark.parametrize("told", [None, 0])
def test_process_memory_of_none_or_zero_is_absent(told: int | None) -> None:
    library = FakeNvml(processes={OWN: told})
    with CardMonitor(card_of(library), OWN) as monitor:
        seen, _ = monitor.finish()
    assert seen.process_peak_bytes is None
    assert seen.device_peak_bytes == library.used


def test_process_memory_counts_for_our_own_pid_only() -> None:
    library = FakeNvml(processes={OWN: 300 * MIB, OTHER: 700 * MIB})
    with CardMonitor(card_of(library), OWN) as monitor:
        library.processes = {OWN: 900 * MIB, OTHER: 700 * MIB}
        monitor.sample()
        library.processes = {OWN: 300 * MIB, OTHER: 700 * MIB}
        seen, _ = monitor.finish()
    assert seen.process_peak_bytes == 900 * MIB
    assert seen.others_known
    assert seen.moved is None


def test_host_pids_in_a_container() -> None:
    library = FakeNvml(processes={31337: 300 * MIB})
    with CardMonitor(card_of(library), OWN) as monitor:
        library.processes = {31337: 2000 * MIB}  # ourselves, under a name we do not know
        library.used += 1700 * MIB
        monitor.sample()
        library.used -= 1700 * MIB
        library.processes = {31337: 300 * MIB}
        seen, _ = monitor.finish()
    assert (seen.process_peak_bytes, seen.moved, seen.others_known) == (None, None, False)
    assert seen.device_before_bytes == seen.device_after_bytes == 1000 * MIB
    assert seen.device_peak_bytes == 2700 * MIB


@pytest.mark.parametrize(
    ("during", "said"),
    [
        ({OWN: 300 * MIB, OTHER: 700 * MIB, 300: None}, "300 came"),
        ({OWN: 300 * MIB}, "200 left"),
        ({OWN: 300 * MIB, OTHER: 2700 * MIB}, "200 went"),
    ],
)
def test_another_process_that_moves_and_moves_back(during: dict[int, int | None], said: str) -> None:
    library = FakeNvml(processes={OWN: 300 * MIB, OTHER: 700 * MIB})
    with CardMonitor(card_of(library), OWN) as monitor:
        library.processes = during
        monitor.sample()
        library.processes = {OWN: 300 * MIB, OTHER: 700 * MIB}
        seen, _ = monitor.finish()
    assert said in str(seen.moved)


def test_first_process_of_a_card_that_had_none() -> None:
    library = FakeNvml()
    with CardMonitor(card_of(library), OWN) as monitor:
        library.processes = {OTHER: None}
        seen, _ = monitor.finish()
    assert "200 came" in str(seen.moved)


def test_another_process_that_gives_back_without_being_listed() -> None:
    library = FakeNvml(refused={"nvmlDeviceGetComputeRunningProcesses"})
    with CardMonitor(card_of(library), OWN) as monitor:
        library.used -= 500 * MIB
        seen, _ = monitor.finish()
    assert "gave back" in str(seen.moved)


def test_library_that_dies_in_mid_trial() -> None:
    library = FakeNvml()
    with CardMonitor(card_of(library), OWN) as monitor:
        library.refused = set(QUESTIONS.values())
        monitor.sample()
        seen, telemetry = monitor.finish()
    assert (seen.device_before_bytes, seen.device_peak_bytes, seen.moved) == (None, None, None)
    assert telemetry is not None
    assert telemetry.energy_j is None


def test_no_card() -> None:
    with CardMonitor(None, OWN, lambda: None) as monitor:
        monitor.enter_phase("timed")
        monitor.enter_phase("finished")
        seen, telemetry = monitor.finish()
    assert (seen.device_peak_bytes, telemetry, monitor.slowdowns()) == (None, None, ())


def test_telemetry_counts_over_the_timed_samples_only() -> None:
    library = FakeNvml(energy_mj=5000, reasons=0x20)
    with CardMonitor(card_of(library), OWN) as monitor:
        library.reasons = 0x04
        monitor.enter_phase("timed")
        library.energy_mj = 7500
        monitor.enter_phase("finished")
        library.energy_mj, library.reasons = 9000, 0x40
        _, telemetry = monitor.finish()
    assert telemetry is not None
    assert telemetry.energy_j == 2.5
    assert telemetry.throttle_reasons == ("sw_power_cap",)
    assert (telemetry.sm_clock_mhz, telemetry.temperature_c) == (1500, 60)
    assert monitor.slowdowns() == ()  # a power cap is how cards run under load


def test_monitor_samples_by_itself_and_often() -> None:
    library = FakeNvml()
    with CardMonitor(card_of(library), OWN):
        assert library.wait_for_calls(5)
    assert INTERVAL_S <= 1 / 50
