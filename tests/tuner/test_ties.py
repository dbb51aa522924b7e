"""Candidates that cannot be told apart are measured again, in turns, until they part or tie."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from phase8_tune.tuner.records.cells import describe_ties
from phase8_tune.tuner.records.frontier import settle, to_points
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.records.recommend import recommend
from phase8_tune.tuner.records.ties import TIE, compare
from phase8_tune.tuner.search.foresight import Foresight
from phase8_tune.tuner.search.guided import GuidedSearch
from phase8_tune.tuner.search.strategy import Strategy
from phase8_tune.tuner.study.definition import parse_definition
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.measurement import Measurement
from phase8_tune.tuner.values.record import Record

from .outlooks import outlook_of
from .report_records import make_candidate, make_record
from .search_bench import Bench

GB = 2**30
SPREAD = 0.003  # as two measurements of the same training step differ (studies/results, repeatability)
STUDY = parse_definition(
    """
name: near
axes:
  model: [nano]
  n_seq: [64]
  batch_size: [4, 8, 16, 32]
  kernel_version: [reference]
  gradient_checkpointing: [false]
  mixed_precision: [bf16]
""",
    "near",
)


class Nothing(Strategy):
    """Proposes nothing."""

    has_plan = False

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        return None


def attempt(rate: float, number: int, batch: int = 4, **changes: object) -> Record:
    candidate = make_candidate(batch_size=batch)
    return make_record(candidate, tokens_per_s=rate, attempt=number, peak_bytes=batch * GB // 4, **changes)  # type: ignore[arg-type]


BATCHES = (4, 8, 16, 32)


def strategy() -> GuidedSearch:
    """Of one line whose batches are all about as fast by prediction."""
    line = make_candidate(model="nano", n_seq=64).line()
    outlook = outlook_of(line, BATCHES, BATCHES[-1], lambda batch: 1000.0)
    return GuidedSearch(Foresight.of([outlook]), Nothing(), budget_bytes=8 * GB)


def follow(truth: dict[int, float], chance: random.Random, spread: float = SPREAD) -> list[Record]:
    """The records of a search in which every attempt is off by its own chance."""
    guided, knowledge = strategy(), Knowledge()
    records: list[Record] = []
    while (candidate := guided.propose(knowledge, knowledge.is_available)) is not None:
        number = len(knowledge.attempts(candidate)) + 1
        assert guided.is_repeat == (number > 1)
        rate = truth[candidate.batch_size] * chance.gauss(1, spread)
        peak_bytes = candidate.batch_size * GB // 32
        records.append(make_record(candidate, tokens_per_s=rate, attempt=number, peak_bytes=peak_bytes))
        knowledge.add(records[-1])
    return records


def test_the_best_within_half_a_percent_is_recommended_for_few_repeats() -> None:
    right, right_at_once, repeats, all_measured, seeds = 0, 0, 0, 0, 300
    for seed in range(seeds):
        chance = random.Random(seed)
        truth = {batch: 1000.0 * (1 - chance.choice((0.0, 0.002, 0.006, 0.01, 0.03))) for batch in BATCHES}
        records = follow(truth, chance)
        measured = {record.candidate["batch_size"] for record in records}
        best = max(truth[batch] for batch in measured)
        (point,) = recommend(to_points(records))
        right += truth[point.candidate.batch_size] >= best * (1 - TIE)
        (point,) = recommend(to_points([record for record in records if record.attempt == 1]))
        right_at_once += truth[point.candidate.batch_size] >= best * (1 - TIE)
        repeats += len(records) - len(measured)
        all_measured += measured == set(BATCHES)
        assert max(Counter(record.digest for record in records).values()) <= 4
    assert right >= 0.99 * seeds
    assert right > right_at_once
    assert repeats <= seeds  # one for each model
    assert all_measured > seeds / 2


def test_what_is_clearly_apart_is_measured_once() -> None:
    records = follow({4: 970.0, 8: 980.0, 16: 990.0, 32: 1020.0}, random.Random(0))
    assert {record.attempt for record in records} == {1}


def test_repeats_are_interleaved() -> None:
    records = follow({4: 900.0, 8: 998.0, 16: 1000.0, 32: 999.0}, random.Random(5), 4 * SPREAD)
    again = [(record.attempt, record.digest) for record in records if record.attempt > 1]
    assert [number for number, _ in again] == sorted(number for number, _ in again)
    assert len({digest for _, digest in again}) > 1
    assert max(again)[0] > 2


def test_undisturbed_attempts_count_together() -> None:
    records = [
        attempt(1000.0, 1),
        attempt(1010.0, 2),
        attempt(500.0, 3, tainted=("throttled",)),
    ]
    records[1] = records[1].model_copy(
        update={"measurement": records[1].measurement.model_copy(update={"peak_bytes": 3 * GB})}
    )
    for order in (records, records[::-1]):
        (record,), (point,) = settle(order), to_points(order)
        assert len(record.measurement.samples_s) == 10
        assert point.tokens_per_s == pytest.approx(1005.0)
        assert point.attempt_rates == pytest.approx((1000.0, 1010.0))
        assert point.peak_bytes == record.measurement.peak_bytes == 3 * GB


def test_of_a_tie_the_one_with_less_memory_is_recommended_and_told() -> None:
    near = [
        attempt(rate, number, batch) for number in (1, 2, 3, 4) for batch, rate in ((8, 1000.5), (4, 1000))
    ]
    (point,) = recommend(to_points(near))
    assert point.candidate.batch_size == 4
    (line,) = describe_ties(to_points(near))
    assert line.startswith("Tied within 0.5 %, each measured 4 times: small 8×512")
    once = to_points(near[:2])
    assert recommend(once)[0].candidate.batch_size == 8
    assert describe_ties(once) == []
    assert len(compare(once).unresolved) == 2
    apart = [attempt(rate, number, batch) for number in (1, 2) for batch, rate in ((8, 1010), (4, 1000))]
    assert compare(to_points(apart)).unresolved == []


class Near(Bench):
    """A search whose measurements are all about as fast; they are off by chance."""

    def measure(self, candidate: Candidate) -> Measurement:
        found = self.formula(candidate)
        chance = random.Random(f"{candidate.digest()} {len(self.measurer.measured)}")
        step_s = candidate.items_per_step / (1000.0 * chance.gauss(1, SPREAD / 4))
        return found.model_copy(update={"samples_s": (step_s,) * 5})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, STUDY)
        self.formula = self.measurer.measure
        self.measurer.measure = self.measure  # type: ignore[method-assign]


def test_a_search_repeats_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    whole = Near(tmp_path)
    result = whole.run(strategy=strategy())
    records = read_records(whole.path)
    repeats = [record for record in records if record.attempt > 1]
    assert repeats
    assert result.launched_now == len(result.records) == len({record.digest for record in records})
    for digest in {record.digest for record in records}:
        mine = [record for record in records if record.digest == digest]
        assert [record.attempt for record in mine] == list(range(1, len(mine) + 1))
        assert {record.trial_number for record in mine} == {whole.trial_of(digest).number}
    assert len([trial for trial in whole.trials if trial.state.is_finished()]) == len(result.records)
    # A driver that died after any record goes on to the same end.
    lines = whole.path.read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        folder = tmp_path / str(kept)
        folder.mkdir()
        again = Near(folder)
        again.path.write_bytes(b"".join(lines[:kept]))
        again.measurer.measured.extend(record.digest for record in records[:kept])
        again.run(strategy=strategy())
        assert [(r.digest, r.attempt) for r in read_records(again.path)] == [
            (r.digest, r.attempt) for r in records
        ]
