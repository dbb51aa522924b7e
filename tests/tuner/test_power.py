"""Mains or battery: as Linux lists it, and in every record that it concerns."""

from __future__ import annotations

import csv
import io
from functools import partial
from pathlib import Path

import pytest

from phase8_tune.tuner.machine.power import power_source
from phase8_tune.tuner.measuring.monitor import CardMonitor
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.report.markdown import render_report
from phase8_tune.tuner.report.trials_csv import render_csv
from phase8_tune.tuner.values.measurement import Measurement, PowerSource, Telemetry
from phase8_tune.tuner.values.outcome import Outcome

from ..fakes.nvml import FakeNvml
from .report_records import make_candidate, make_record
from .test_nvml import OWN, card_of
from .test_report import make_facts


def supply(folder: Path, name: str, **attributes: str) -> None:
    (folder / name).mkdir()
    for key, value in attributes.items():
        (folder / name / key).write_text(value + "\n")


@pytest.mark.parametrize(
    ("battery", "online", "expected"),
    [
        ("Discharging", "0", "battery"),
        ("Discharging", "1", "battery"),  # a supply too weak for the load
        ("Charging", "1", "ac"),
        ("Full", None, "ac"),
        (None, "1", "ac"),
        (None, "0", None),
        (None, None, None),
    ],
)
def test_power_source(tmp_path: Path, battery: str | None, online: str | None, expected: str | None) -> None:
    if battery is not None:
        supply(tmp_path, "BAT0", type="Battery", status=battery)
    if online is not None:
        supply(tmp_path, "AC", type="Mains", online=online)
    supply(tmp_path, "hidpp_battery_0", type="Battery", status="Discharging", scope="Device")  # a mouse
    assert power_source(tmp_path) == expected


def test_no_power_supply_is_listed(tmp_path: Path) -> None:
    assert power_source(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("ac", "ac", "ac"),
        ("ac", "battery", "battery"),
        ("battery", "ac", "battery"),
        (None, "ac", "ac"),
        (None, None, None),
    ],
)
def test_a_trial_that_was_on_battery_for_a_part_was_on_battery(
    before: PowerSource | None, after: PowerSource | None, told: PowerSource | None
) -> None:
    for card in (card_of(FakeNvml()), None):
        with CardMonitor(card, OWN, partial(next, iter((before, after)))) as monitor:
            _, telemetry = monitor.finish()
        if card is None and told is None:
            assert telemetry is None
        else:
            assert telemetry is not None
            assert telemetry.power_source == told


def test_energy_is_told_a_token() -> None:
    found = Measurement(outcome=Outcome.OK, samples_s=(0.5, 0.5), telemetry=Telemetry(energy_j=200.0))
    assert found.energy_per_token_j(1000) == 0.1
    assert found.model_copy(update={"telemetry": Telemetry()}).energy_per_token_j(1000) is None
    assert found.model_copy(update={"telemetry": None}).energy_per_token_j(1000) is None
    assert found.model_copy(update={"samples_s": ()}).energy_per_token_j(1000) is None


def test_report_and_table_tell_the_battery_and_the_energy() -> None:
    telemetry = Telemetry(
        energy_j=200.0, power_source="battery", throttle_reasons=("gpu_idle", "sw_power_cap")
    )
    plain, other = make_record(make_candidate()), make_record(make_candidate(batch_size=8), trial_number=1)
    on_battery = plain.model_copy(
        update={"measurement": plain.measurement.model_copy(update={"telemetry": telemetry})}
    )
    assert "On battery, which slows a computer: 1 of 2" in render_report(
        Results.of([on_battery, other]), make_facts()
    )
    assert "On battery" not in render_report(Results.of([plain, other]), make_facts())
    row, without = csv.DictReader(io.StringIO(render_csv([on_battery, other], [])))
    assert row["power_source"] == "battery"
    assert row["throttle_reasons"] == "gpu_idle sw_power_cap"
    assert float(row["energy_j_per_token"]) == 200.0 / (5 * plain.to_candidate().items_per_step)
    assert without["power_source"] == without["energy_j_per_token"] == ""
