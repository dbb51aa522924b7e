"""The guided search: the likely best of every model and cell, around a top."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.predict.outlook import Outlook
from phase8_tune.tuner.predict.rate.throughput import Correction, MeasuredStep, correct
from phase8_tune.tuner.records.cells import cell_of
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search import guided
from phase8_tune.tuner.search.cells import refining, top_batch
from phase8_tune.tuner.search.foresight import Foresight
from phase8_tune.tuner.search.guided import GuidedSearch, measured_steps
from phase8_tune.tuner.search.strategy import RowOrder, Strategy
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from .outlooks import outlook_of
from .report_records import make_candidate, make_record
from .search_bench import BUDGET_BYTES

ANY = range(1, 4097)


class Nothing(Strategy):
    """Proposes nothing: what is measured nevertheless, predictions asked for."""

    has_plan = False

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        return None


def guided_by(foresight: Foresight) -> GuidedSearch:
    return GuidedSearch(foresight, Nothing(), budget_bytes=BUDGET_BYTES)


def saturating(rate: float) -> Callable[[int], float]:
    return lambda batch: rate * batch / (batch + 4)


def line(model: str = "small", n_seq: int = 256, version: str = "fast") -> Candidate:
    return make_candidate(model=model, n_seq=n_seq, kernel_version=version).line()


def follow(
    outlooks: Sequence[Outlook], true_rate: Callable[[Candidate], float], most: int = 300
) -> list[Candidate]:
    """What is proposed, one after the other, where every candidate measures at its true rate and takes what
    was predicted."""
    by_line = {outlook.line: outlook for outlook in outlooks}
    strategy, knowledge = guided_by(Foresight.of(outlooks)), Knowledge()
    found: list[Candidate] = []
    while (candidate := strategy.propose(knowledge, knowledge.is_available)) is not None:
        attempt = len(knowledge.attempts(candidate)) + 1
        assert strategy.is_repeat == (attempt > 1)
        assert attempt <= 4
        if not strategy.is_repeat:
            found.append(candidate)
        peak_bytes = by_line[candidate.line()].forecast(candidate.batch_size).peak_bytes
        record = measured(candidate, true_rate(candidate), peak_bytes=peak_bytes)
        knowledge.add(record.model_copy(update={"attempt": attempt}))
        assert len(found) <= most
    return found


def measured(
    candidate: Candidate, rate: float, outcome: Outcome = Outcome.OK, peak_bytes: int = BUDGET_BYTES // 2
) -> Record:
    peak = peak_bytes if outcome is Outcome.OK else None
    return make_record(
        candidate, tokens_per_s=rate, peak_bytes=peak, outcome=outcome, budget_bytes=BUDGET_BYTES
    )


def predicted(outlooks: Sequence[Outlook]) -> Callable[[Candidate], float]:
    by_line = {outlook.line: outlook for outlook in outlooks}
    return lambda c: by_line[c.line()].forecast(c.batch_size).tokens_per_s.expected


MODELS = ("nano", "small", "medium")
EVERY = [
    outlook_of(line(model, n_seq), ANY, 4000 // n_seq, saturating(1000.0 / (1 + number) - n_seq / 100))
    for number, model in enumerate(MODELS)
    for n_seq in (256, 512, 1024)
]


def test_every_model_comes_first_then_every_cell_at_its_top() -> None:
    found = follow(EVERY, predicted(EVERY))
    assert [c.model for c in found[:3]] == list(MODELS)
    assert {(c.model, c.n_seq) for c in found[:9]} == {(m, n) for m in MODELS for n in (256, 512, 1024)}
    tops = {outlook.line: top_batch(outlook) for outlook in EVERY}
    assert all(c.batch_size == tops[c.line()] for c in found[:9])
    assert len(found) == len(set(found))


def test_a_model_of_another_vocabulary_is_another_model() -> None:
    """So that each has its recommended file before a second cell of the faster one is looked at."""
    other = make_candidate(model="small", n_seq=256, kernel_version="fast", vocab_size=8192).line()
    rates = {line(n_seq=256): 1000.0, line(n_seq=512): 990.0, other: 500.0}
    outlooks = [outlook_of(each, (8,), 8, saturating(rate)) for each, rate in rates.items()]
    found = follow(outlooks, predicted(outlooks))
    assert [c.line() for c in found] == [line(n_seq=256), other, line(n_seq=512)]


@given(
    peak=st.floats(0.3, 1.0),
    largest=st.integers(1, 2000),
    noise=st.integers(0, 1000),
)
def test_around_a_top_the_best_batch_is_found_within_a_percent(peak: float, largest: int, noise: int) -> None:
    """Throughput rises to a batch and falls after it, a little uneven."""

    def true_rate(candidate: Candidate) -> float:
        share = candidate.batch_size / max(peak * largest, 1)
        uneven = random.Random(f"{noise} {candidate.batch_size}").uniform(0.999, 1.001)
        return 1000.0 * (1 - 0.3 * math.log(share) ** 2 / (1 + math.log(share) ** 2)) * uneven

    only = outlook_of(line(), ANY, largest, saturating(1000.0))
    found = follow([only], true_rate, most=9 + len(only.rungs))[:9]  # then what adds to the frontier
    assert all(1 <= c.batch_size <= largest for c in found)
    best = max(true_rate(only.line.at(batch)) for batch in range(1, largest + 1))
    if peak >= 0.7:  # within what is looked at
        assert max(map(true_rate, found)) >= 0.985 * best


def test_a_listed_batch_is_never_another() -> None:
    few = outlook_of(line(), (1, 3, 7, 20, 50), 20, saturating(100.0))
    found = follow([few], predicted([few]))
    assert {c.batch_size for c in found} <= {1, 3, 7, 20}
    assert found[0].batch_size == 20


VERSIONS = ("fast", "v2")
RATES = {"fast": 1000.0, "v2": 900.0}


def level(rate: float) -> Callable[[int], float]:
    return lambda batch: rate


CELLS = {
    (n_seq, version): outlook_of(line("small", n_seq, version), (4,), 4, level(RATES[version] - n_seq / 100))
    for n_seq in (256, 512, 1024)
    for version in VERSIONS
}


def proposed(*records: Record) -> Candidate | None:
    knowledge = Knowledge(records)
    strategy = guided_by(Foresight.of(CELLS.values()))
    return strategy.propose(knowledge, lambda candidate: not knowledge.is_settled(candidate))


def at(n_seq: int, version: str) -> Candidate:
    return CELLS[n_seq, version].line.at(4)


def test_measurements_change_what_is_likely_best() -> None:
    """fast measures at half of its forecast, v2 at all of it: the other cells' likely best is v2 then."""
    assert proposed() == at(256, "fast")
    slow = [measured(at(n, "fast"), 500.0) for n in (256, 512)]
    true = measured(at(256, "v2"), 897.0)
    assert proposed(slow[0]) == at(512, "fast")  # both versions' forecasts are halved by one measurement
    assert proposed(*slow, true) == proposed(true, *reversed(slow)) == at(1024, "v2")


def test_where_the_likely_best_ran_out_of_memory_a_smaller_batch_is_taken() -> None:
    only = outlook_of(line(), ANY, 100, saturating(100.0))
    strategy, knowledge = guided_by(Foresight.of([only])), Knowledge()
    first = strategy.propose(knowledge, knowledge.is_available)
    assert first is not None
    knowledge.add(measured(first, 1.0, Outcome.OOM))
    second = strategy.propose(knowledge, knowledge.is_available)
    assert second is not None
    assert second.line() == first.line()
    assert 0.9 * first.batch_size < second.batch_size < first.batch_size


@pytest.mark.parametrize("seed", range(4))
def test_a_strategy_that_has_followed_a_search_proposes_what_a_new_one_would(seed: int) -> None:
    """So a search can be interrupted at any point and goes on to the same end."""
    chance = random.Random(seed)
    outlooks = [
        outlook_of(
            line("small", n, v), ANY, chance.randint(1, 300), saturating(chance.choice([10, 20, 30.0]))
        )
        for n in (256, 512)
        for v in VERSIONS
    ]
    foresight, knowledge = Foresight.of(outlooks), Knowledge()
    followed, proposals = guided_by(foresight), 0
    largest = {outlook.line: outlook.largest for outlook in outlooks}
    while (found := followed.propose(knowledge, knowledge.is_available)) is not None:
        fresh = guided_by(foresight)
        assert fresh.propose(knowledge, knowledge.is_available) == found
        assert found.batch_size <= largest[found.line()]  # never over the budget by prediction
        proposals += 1
        ends = chance.choice([Outcome.OK, Outcome.OK, Outcome.OOM, Outcome.TIMEOUT])
        knowledge.add(measured(found, chance.uniform(5, 50), ends))
        assert proposals < 200
    assert guided_by(foresight).propose(knowledge, knowledge.is_available) is None
    assert proposals >= 2


def test_several_devices_measure_several_cells_and_nothing_twice() -> None:
    strategy, knowledge = guided_by(Foresight.of(EVERY)), Knowledge()
    found = []
    for _ in range(4):
        candidate = strategy.propose(knowledge, knowledge.is_available)
        assert candidate is not None
        knowledge.begin(candidate)
        found.append(candidate)
    assert len({cell_of(candidate) for candidate in found}) == 4
    assert {candidate.model for candidate in found[:3]} == set(MODELS)


def test_a_correction_is_made_again_the_less_often_the_more_it_is_made_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def count_and_correct(steps: Sequence[MeasuredStep]) -> Correction:
        made.append(len(steps))
        return correct(steps)

    monkeypatch.setattr(guided, "correct", count_and_correct)
    only = outlook_of(line(), tuple(range(1, 301)), 300, saturating(10.0))
    candidates = [only.line.at(batch) for batch in range(1, 301)]
    rows, knowledge = RowOrder(candidates), Knowledge()
    strategy = GuidedSearch(Foresight.of([only]), rows, budget_bytes=BUDGET_BYTES)
    while (candidate := strategy.propose(knowledge, knowledge.is_available)) is not None:
        knowledge.add(measured(candidate, 10.0))
    assert made[:66] == [*range(65), 66]
    assert all(after <= before * 65 / 64 + 1 for before, after in itertools.pairwise(made))
    assert len(made) < 64 + 64 * math.log(300 / 64) + 2


def test_a_correction_follows_from_measured_records_alone() -> None:
    foresight = Foresight.of(CELLS.values())
    rates = {"fast": 500.0, "v2": 450.0}
    halved = [measured(at(n, v), rates[v]) for n, v in CELLS]
    steps, left = measured_steps(halved, foresight)
    assert left == []
    # Some points are trusted for the most part
    factor = correct(steps).log_factor("fast", "memory traffic")
    assert 0.9 * math.log(2) < factor < math.log(2)
    failed = measured(at(256, "v2"), 1.0, Outcome.OOM)
    assert measured_steps([failed], foresight) == ([], [])
    coming = Foresight([outlook.line for outlook in CELLS.values()])
    assert measured_steps(halved[:1], coming) == ([], halved[:1])


def test_what_is_told_apart_grows_with_the_batch() -> None:
    outlook = outlook_of(line(), ANY, 1000, saturating(10.0))
    asked = list(refining(outlook, {992: 10.0}))
    assert asked == [864, 736]
    assert list(refining(outlook, {992: 10.0, 864: 10.2, 736: 9.0}))[:2] == [928, 800]
    assert replace(outlook, largest=1).fitting == range(1, 2)
