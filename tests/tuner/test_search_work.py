"""What the search does for one candidate: no more late in a study than early. Counted, not timed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phase8_tune.tuner.records import hypervolume as volumes
from phase8_tune.tuner.records.frontier import to_points
from phase8_tune.tuner.records.hypervolume import hypervolume
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.stall import StallRule
from phase8_tune.tuner.search.strategy import RowOrder
from phase8_tune.tuner.study.definition import SearchSettings, Stall, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from .report_records import BUDGET_BYTES, make_candidate, make_record
from .search_bench import Bench

ROWS = f"""\
name: rows
defaults:
  {{model: nano, n_seq: 64, kernel_version: reference, gradient_checkpointing: true, mixed_precision: none}}
rows: [{", ".join(f"{{batch_size: {batch}}}" for batch in range(120, 0, -1))}]
"""


def test_a_candidate_late_in_a_study_takes_no_more_than_an_early_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            return function(*args, **kwargs)

        return wrapped

    for owner, name in (
        (Record, "to_candidate"),
        (Candidate, "digest"),
        (Knowledge, "is_available"),
        (Knowledge, "is_settled"),
        (volumes, "to_box"),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    definition = parse_definition(ROWS, "rows")
    bench = Bench(tmp_path, definition)
    after: list[int] = []
    bench.on_event = lambda event: after.append(calls[0]) if event.last is not None else None
    bench.run(SearchSettings(stall=Stall(measurements=119)))
    assert len(after) == SearchSpace(definition).size() == 120
    early, late = after[50] - after[10], after[110] - after[70]
    assert 0 < late <= early


def test_rows_come_in_their_order_whatever_is_under_way() -> None:
    rows = [make_candidate(batch_size=batch) for batch in range(1, 6)]
    strategy, knowledge = RowOrder(rows), Knowledge()
    knowledge.begin(rows[0])
    assert strategy.propose(knowledge, knowledge.is_available) == rows[1]
    knowledge.add(make_record(rows[1]))
    assert strategy.propose(knowledge, knowledge.is_available) == rows[2]
    knowledge.add(make_record(rows[0], outcome=Outcome.TIMEOUT))
    knowledge.add(make_record(rows[3]))
    assert strategy.propose(knowledge, knowledge.is_available) == rows[2]
    knowledge.add(make_record(rows[2]))
    knowledge.begin(rows[4])
    assert strategy.propose(knowledge, knowledge.is_available) is None


@settings(max_examples=60)
@given(
    found=st.lists(
        st.tuples(
            st.sampled_from([Outcome.OK, Outcome.OOM, Outcome.PREDICTED_OVER_BUDGET]),
            st.integers(1, 5),
            st.integers(1, 5),
        ),
        max_size=12,
    ),
    measurements=st.integers(1, 4),
    growth=st.sampled_from([0.0, 0.1]),
)
def test_a_stall_is_what_two_hypervolumes_say(
    found: list[tuple[Outcome, int, int]], measurements: int, growth: float
) -> None:
    knowledge = Knowledge()
    rule = StallRule(Stall(measurements=measurements, growth=growth), BUDGET_BYTES)
    for batch, (outcome, rate, peak) in enumerate(found, start=1):
        attempt = 0 if outcome is Outcome.PREDICTED_OVER_BUDGET else 1
        candidate = make_candidate(batch_size=batch)
        knowledge.add(
            make_record(
                candidate, outcome=outcome, attempt=attempt, tokens_per_s=rate, peak_bytes=peak * 2**30
            )
        )
        launched = [r for r in knowledge.settled if r.attempt > 0]
        is_stalled = False
        if len(launched) > measurements:
            before = hypervolume(to_points(launched[:-measurements]), BUDGET_BYTES)
            now = hypervolume(to_points(launched), BUDGET_BYTES)
            is_stalled = now <= before * (1 + growth)
        assert rule.holds(knowledge) == is_stalled
