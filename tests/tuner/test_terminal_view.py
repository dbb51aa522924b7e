"""The lines of the live view: at any size, of one device and of several."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from phase8_tune.tuner.machine.nvml import open_nvml
from phase8_tune.tuner.measuring.gauge import Reading, card_gauge, worker_gauge
from phase8_tune.tuner.report.live_view import Device, View
from phase8_tune.tuner.search.progress import SearchEvent

from ..fakes.nvml import FakeNvml
from .report_records import BUDGET_BYTES, make_candidate, make_record

GIB = 2**30
EVENT = SearchEvent(
    done=31,
    pruned=12,
    failed=1,
    total=120,
    best_tokens_per_s=34_120.0,
    running={"cuda": make_candidate()},
    last=None,
    seconds_left_estimate=245.0,
)
READING = Reading(used_bytes=5 * GIB, temperature_c=71, sm_clock_mhz=1605)
ONE = View(
    budget_bytes=BUDGET_BYTES,
    elapsed_s=751.0,
    event=EVENT,
    seconds_left=245.0,
    devices=[Device(name="cuda", candidate=make_candidate(), busy_s=12.0, reading=READING)],
    best=[
        make_record(tokens_per_s=34_120),
        make_record(make_candidate(model="nano", batch_size=64), tokens_per_s=58_100, peak_bytes=GIB),
    ],
)


def shown(view: View, columns: int, rows: int = 40) -> list[str]:
    return [line.plain for line in view.lines(columns, rows)]


def test_all_of_it_on_eighty_columns() -> None:
    assert shown(ONE, 80) == [
        "████████░░░░░░░░░░░░░░░░░░░░░░  31 of 120",
        "12 pruned · 1 failed · 12 min 31 s · about 4 min 05 s left",
        "now     small 4×512 reference bf16 train · 12 s",
        "memory  ███████████████████░░░░░░░░░░░  5,120 of 8,192 MB",
        "GPU     71 °C · 1,605 MHz",
        "best    nano   58,100 tokens/s  1,024 MB  nano 64×512 reference bf16 train",
        "        small  34,120 tokens/s  2,048 MB  small 4×512 reference bf16 train",
    ]


def test_on_forty_columns_what_is_less_important_goes() -> None:
    assert shown(ONE, 40) == [
        "███████░░░░░░░░░░░░░░░░░░░░░  31 of 120",
        "12 pruned · 1 failed · 12 min 31 s",
        "about 4 min 05 s left",
        "now     small 4×512 reference bf16",
        "        train · 12 s",
        "memory  ████████░░░░  5,120 of 8,192 MB",
        "GPU     71 °C · 1,605 MHz",
        "best    nano   58,100 tokens/s",
        "        small  34,120 tokens/s",
    ]


@given(st.integers(20, 200), st.integers(4, 60), st.integers(0, 20), st.integers(1, 4))
def test_no_line_is_as_wide_as_the_terminal_and_all_fit_on_it(
    columns: int, rows: int, models: int, devices: int
) -> None:
    records = [
        make_record(make_candidate(model=f"{64 * (n + 1)}x2"), tokens_per_s=10.0 ** (n % 6), parameters=1000)
        for n in range(models)
    ]
    busy = [replace(ONE.devices[0], name=f"GPU-{n}") for n in range(devices)]
    view = replace(ONE, best=records, devices=busy)
    lines = shown(view, columns, rows)
    assert len(lines) < rows
    assert all(cell_len(line) < columns for line in lines)


def test_models_for_which_there_is_no_room_are_counted() -> None:
    records = [make_record(make_candidate(model=f"{64 * n}x2"), parameters=1000) for n in range(1, 10)]
    lines = shown(replace(ONE, best=records), 80, 12)
    assert len(lines) == 11
    assert lines[-1] == "        and 4 more"


def test_several_gpus_are_named_by_their_uuids() -> None:
    idle = Device(name="GPU-99999999-1", candidate=None, busy_s=0.0, reading=None)
    busy = replace(ONE.devices[0], name="GPU-12345678-1")
    lines = shown(replace(ONE, devices=[busy, idle], best=[]), 80)[2:]
    assert lines == [
        "1234567 small 4×512 reference bf16 train · 12 s",
        "        ███████████████████░░░░░░░░░░░  5,120 of 8,192 MB",
        "        71 °C · 1,605 MHz",
        "9999999 waits",
    ]


def test_of_many_devices_the_models_keep_their_rows() -> None:
    busy = [replace(ONE.devices[0], name=f"a-node-{n // 8}/{n % 8}") for n in range(64)]
    lines = shown(replace(ONE, devices=busy), 80, 24)
    assert [line for line in lines if line.startswith("        and ")] == ["        and 60 more"]
    assert lines[2].startswith("ode-0/0 small ")
    assert lines[-2].startswith("best    nano ")


@pytest.mark.parametrize(("used", "style"), [(5 * GIB, "green"), (8 * GIB - 1, "yellow"), (9 * GIB, "red")])
def test_the_bar_says_how_near_the_budget_is(used: int, style: str) -> None:
    full = replace(ONE.devices[0], reading=Reading(used_bytes=used))
    memory = next(line for line in replace(ONE, devices=[full]).lines(80, 40) if "MB" in line.plain)
    assert style in {str(span.style) for span in memory.spans}


def test_before_the_first_event_the_worker_starts() -> None:
    view = replace(ONE, event=None, devices=[], best=[], elapsed_s=3.0)
    assert shown(view, 80) == ["the worker starts · 3 s"]


def test_a_card_is_read_as_nvml_tells_it() -> None:
    library = FakeNvml(used=3 * GIB)
    nvml = open_nvml(library).nvml
    assert nvml is not None
    card = nvml.find(library.uuid)
    assert card is not None
    reading = card_gauge(card)()
    assert reading.used_bytes == 3 * GIB
    assert reading.temperature_c is not None
    assert reading.sm_clock_mhz is not None
    library.refused.update({"nvmlDeviceGetTemperature", "nvmlDeviceGetClockInfo", "nvmlDeviceGetMemoryInfo"})
    assert card_gauge(card)() == Reading(used_bytes=None)


def test_a_worker_that_is_gone_has_no_memory() -> None:
    assert worker_gauge(lambda: None)() == Reading(used_bytes=None)
    assert worker_gauge(lambda: 2**22 + 1)() == Reading(used_bytes=None)  # above the largest pid
    own = worker_gauge(lambda: 1)().used_bytes
    assert own is None or own > 0
