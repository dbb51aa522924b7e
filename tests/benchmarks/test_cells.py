"""The benchmark of recommended batches: which are measured, and what is said of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.benchmarks.cells import batches_below, measure_cells, summary_of, table_of
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records.results import Results
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import Measurement

from ..tuner.report_records import BUDGET_BYTES, make_candidate, make_record

RECORDS = [
    make_record(make_candidate(model=model, batch_size=batch), tokens_per_s=100.0 + batch)
    for model in ("nano", "small")
    for batch in (8, 16, 40)
]


@given(largest=st.integers(1, 3000), share=st.floats(0.01, 1.0), count=st.integers(2, 14))
def test_so_many_batches_are_measured_the_recommended_among_them(
    largest: int, share: float, count: int
) -> None:
    recommended = max(int(largest * share), 1)
    found = batches_below(largest, recommended, count)
    assert found == sorted(set(found))
    assert recommended in found
    assert all(1 <= batch <= largest for batch in found)
    assert len(found) >= min(count, largest)


def test_every_recommended_cell_is_compared_with_its_batches() -> None:
    """The formula's throughput grows with the batch: of what was recommended the largest is the best."""
    measurer = FormulaMeasurer(BUDGET_BYTES)
    asked: list[Candidate] = []

    def measure(candidate: Candidate) -> Measurement:
        asked.append(candidate)
        return measurer.measure(candidate)

    cells = measure_cells(Results.of(RECORDS), measure, 10, 2, lambda: False)
    assert [cell["recommended"] for cell in cells] == [40, 40]
    assert all(cell["best"] == 40 and cell["behind"] == 0 for cell in cells)
    assert summary_of(cells) == {
        "cells": 2,
        "batches_at_least": 10,
        "behind_mean": 0.0,
        "behind_worst": 0.0,
    }
    rounds = [c.batch_size for c in asked[:20]]
    assert rounds[:10] == rounds[10:] == sorted(set(rounds))
    assert "nano 40×" in table_of(cells)


def test_a_batch_that_is_better_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    measurer = FormulaMeasurer(BUDGET_BYTES)

    def measure(candidate: Candidate) -> Measurement:
        found = measurer.measure(candidate)
        rate = 200.0 if candidate.batch_size == 36 else 190.0
        return found.model_copy(update={"samples_s": (candidate.items_per_step / rate,) * 5})

    [cell] = measure_cells(Results.of(RECORDS[:3]), measure, 10, 1, lambda: False)
    assert (cell["best"], cell["behind"]) == (36, pytest.approx(0.05))


def test_when_the_time_is_up_what_is_whole_is_kept() -> None:
    calls = itertools.count()
    measurer = FormulaMeasurer(BUDGET_BYTES)
    cells = measure_cells(Results.of(RECORDS), measurer.measure, 10, 1, lambda: next(calls) >= 10)
    assert len(cells) == 1
