"""The benchmark of the driver: whose time it is, and what is written. How much it is, no test says."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from phase8_tune.benchmarks import driver, driver_meter
from phase8_tune.benchmarks.driver import cases, main, report_of, summarise, watch
from phase8_tune.benchmarks.driver_meter import APART, COLLECTOR, REST, Meter


def test_a_part_has_its_time_without_that_of_the_parts_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(
        driver_meter, "time", SimpleNamespace(perf_counter=lambda: now[0], thread_time=lambda: now[0] / 2)
    )

    def take(seconds: float) -> None:
        now[0] += seconds

    meter = Meter()
    inner = meter.watched("inner", lambda: take(4))

    def outer() -> None:
        take(1)
        inner()
        take(2)

    take(8)
    meter.watched("outer", outer)()
    take(16)
    assert meter.settle() == {REST: (24, 12, 0), "outer": (3, 1.5, 1), "inner": (4, 2, 1)}


def test_the_collectors_time_is_its_own() -> None:
    meter = Meter()
    with meter.watching():
        gc.collect()
    assert meter.settle()[COLLECTOR][2] >= 1
    assert meter._note_collection not in gc.callbacks


@pytest.mark.parametrize("case", cases(12), ids=lambda case: case.name)
def test_every_search_is_followed_from_candidate_to_candidate(
    tmp_path: Path, case: driver.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "WINDOWS", ((2, 6), (7, 11), (950, 1050)))
    seen = watch(case, tmp_path / "run", 12)
    assert len(seen) == 12
    early, late = summarise(case.name, seen)
    assert (early["candidates"], late["candidates"]) == ("2 to 6", "7 to 11")
    parts = {"open", "tell", "journal", "knowledge", "propose", "filters", REST}
    assert parts | ({"ask"} if case.name == "TPE" else set()) <= late["parts_ms"].keys()
    assert not set(APART) & late["parts_ms"].keys()
    assert (late["asked"] > 0) == (case.name == "TPE")
    assert sum(late["parts_ms"].values()) == pytest.approx(late["driver_ms"], abs=0.02)


def test_the_figures_are_written_beside_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(driver, "WINDOWS", ((2, 6),))
    monkeypatch.setattr(driver, "cases", lambda candidates: cases(candidates)[:1])
    for before, output in (([], "first"), (["--before", str(tmp_path / "first" / "results.json")], "second")):
        arguments = ["driver", "--candidates", "8", *before, "--output", str(tmp_path / output)]
        monkeypatch.setattr(sys, "argv", arguments)
        main()
    last = capsys.readouterr().out.splitlines()[-1]
    first, second = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("first", "second")
    )
    assert second["before"] == first["results"]
    assert second["results"] == json.loads(last)
    report = (tmp_path / "second" / "report.md").read_text()
    assert report == report_of(second["results"], second["before"])
    assert report.index("Before:") < report.index("After:")
    assert json.loads((tmp_path / "second" / "environment.json").read_text())["python"]
