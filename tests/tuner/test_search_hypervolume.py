"""Hypervolume against counting unit cells, and its properties."""

from __future__ import annotations

import itertools
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.records.frontier import Point, to_points
from phase8_tune.tuner.records.hypervolume import GrowingHypervolume, hypervolume
from phase8_tune.tuner.values.candidate import Candidate, Mode
from phase8_tune.tuner.values.measurement import Measurement
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

BUDGET_BYTES = 6


def make_point(rate: int, free_bytes: int, parameters: int, mode: Mode = "train") -> Point:
    candidate = Candidate(
        model="nano",
        n_seq=1,
        batch_size=1,
        kernel_version="reference",
        gradient_checkpointing=False,
        mixed_precision="none",
        mode=mode,
    )
    measurement = Measurement(
        outcome=Outcome.OK,
        samples_s=(1 / rate,),
        peak_bytes=BUDGET_BYTES - free_bytes,
        parameters=parameters + 1,
        body_parameters=parameters,
    )
    record = Record(
        digest=candidate.digest(),
        candidate=candidate.identity(),
        trial_number=0,
        attempt=1,
        started_at="2026-01-01T00:00:00+00:00",
        budget_bytes=BUDGET_BYTES,
        measurement=measurement,
    )
    return to_points([record])[0]


BOXES = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6), st.integers(0, 6)), max_size=8)


@given(BOXES)
def test_it_is_the_number_of_unit_cells_covered(boxes: list[tuple[int, int, int]]) -> None:
    cells = {cell for box in boxes for cell in itertools.product(*(range(side) for side in box))}
    volume = hypervolume([make_point(*box) for box in boxes], BUDGET_BYTES)
    assert round(volume, 6) == len(cells)


@given(BOXES, st.randoms())
def test_the_order_does_not_matter_and_more_points_never_shrink_it(
    boxes: list[tuple[int, int, int]], random: Random
) -> None:
    points = [make_point(*box) for box in boxes]
    whole = hypervolume(points, BUDGET_BYTES)
    random.shuffle(points)
    assert round(hypervolume(points, BUDGET_BYTES) - whole, 6) == 0
    assert hypervolume(points[1:], BUDGET_BYTES) <= whole + 1e-6


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6), st.integers(0, 6), st.booleans())))
def test_point_by_point_it_comes_to_the_same(boxes: list[tuple[int, int, int, bool]]) -> None:
    growing, points = GrowingHypervolume(BUDGET_BYTES), []
    for rate, free_bytes, parameters, is_train in boxes:
        points.append(make_point(rate, free_bytes, parameters, mode="train" if is_train else "forward"))
        before = growing.volume
        growing.add(points[-1])
        assert round(growing.volume - hypervolume(points, BUDGET_BYTES), 6) == 0
        others = [p for p in points[:-1] if p.candidate.mode == points[-1].candidate.mode]
        if any(other.dominates(points[-1]) for other in others):
            assert growing.volume == before


def test_modes_are_added_up_apart() -> None:
    train, forward = make_point(2, 3, 4), make_point(3, 3, 4, mode="forward")
    assert round(hypervolume([train, forward], BUDGET_BYTES), 6) == 2 * 3 * 4 + 3 * 3 * 4
