"""What adds most to the frontier by prediction comes first, and what adds too little not at all."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from phase8_tune.tuner.predict.lines import parameter_counts
from phase8_tune.tuner.predict.outlook import Outlook, Rung
from phase8_tune.tuner.records.frontier import to_points
from phase8_tune.tuner.records.hypervolume import GrowingHypervolume, to_box
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.cells import top_batch
from phase8_tune.tuner.search.foresight import Foresight
from phase8_tune.tuner.search.growth import Growth
from phase8_tune.tuner.search.guided import GuidedSearch, measured_steps
from phase8_tune.tuner.search.strategy import RowOrder
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.values.record import Record

from .outlooks import outlook_of, step_of
from .report_records import make_candidate, make_record
from .search_bench import BUDGET_BYTES

ANY = range(1, 4097)


def outlook(model: str, version: str, largest: int, rate: float) -> Outlook:
    """With a rung above the largest batch that fits, which would add most."""
    line = make_candidate(model=model, kernel_version=version).line()
    found = outlook_of(line, ANY, largest, lambda batch: rate * batch / (batch + 4))
    over = Rung(peak_bytes=BUDGET_BYTES // 8, step=step_of(line.at(largest + 1).items_per_step / 9000.0))
    return replace(found, rungs={**found.rungs, largest + 1: over})


OUTLOOKS = [
    outlook("nano", "fast", 200, 4000.0),
    outlook("nano", "v2", 150, 3800.0),
    outlook("small", "fast", 40, 1000.0),
    outlook("small", "v2", 90, 700.0),
]
FORESIGHT = Foresight.of(OUTLOOKS)
BY_LINE = {each.line: each for each in OUTLOOKS}
EXPECTED = [each.line.at(batch) for each in OUTLOOKS for batch in each.rungs if batch <= each.largest]


def measured(candidate: Candidate, share: float = 1.0, attempt: int = 1) -> Record:
    """As predicted, but for the rate, which is that share of it."""
    forecast = BY_LINE[candidate.line()].forecast(candidate.batch_size)
    return make_record(
        candidate,
        tokens_per_s=forecast.tokens_per_s.expected * share,
        peak_bytes=forecast.peak_bytes,
        attempt=attempt,
        budget_bytes=BUDGET_BYTES,
    )


def proposed(growth: Growth, knowledge: Knowledge, most: int = 1) -> list[Candidate]:
    steps, _ = measured_steps(knowledge.first_settled, FORESIGHT)
    found = growth.candidates(knowledge, steps, knowledge.is_available)
    return [candidate for candidate, _ in zip(found, range(most), strict=False)]


def fresh(knowledge: Knowledge, most: int = 1) -> list[Candidate]:
    return proposed(Growth(FORESIGHT, BUDGET_BYTES), knowledge, most)


def added_by(knowledge: Knowledge) -> Callable[[Candidate], float]:
    """What a candidate adds to the volume if it is as predicted; nothing where it is settled."""
    volume = GrowingHypervolume(BUDGET_BYTES)
    for point in to_points(knowledge.settled):
        volume.add(point)

    def added(candidate: Candidate) -> float:
        forecast = BY_LINE[candidate.line()].forecast(candidate.batch_size)
        _, body = parameter_counts(candidate.line())
        box = to_box(forecast.tokens_per_s.expected, forecast.peak_bytes, body, BUDGET_BYTES)
        return 0.0 if knowledge.is_settled(candidate) else volume.growth(candidate.mode, box) / volume.volume

    return added


FIRST = OUTLOOKS[0].line.at(200)


def test_the_largest_growth_comes_first_until_too_little_is_left() -> None:
    """Where every measurement is as predicted, against judging every rung each time."""
    growth, knowledge, found = Growth(FORESIGHT, BUDGET_BYTES), Knowledge([measured(FIRST)]), 0
    while next_one := proposed(growth, knowledge):
        added = added_by(knowledge)
        assert added(next_one[0]) == pytest.approx(max(map(added, EXPECTED)), rel=1e-6)
        assert added(next_one[0]) >= 1e-4
        knowledge.add(measured(next_one[0]))
        found += 1
    assert max(map(added_by(knowledge), EXPECTED)) < 1e-4
    assert 3 <= found < len(EXPECTED)


def test_nothing_over_the_budget_is_asked_for() -> None:
    knowledge = Knowledge([measured(FIRST)])
    over = [each.line.at(each.largest + 1) for each in OUTLOOKS]
    assert max(map(added_by(knowledge), over)) > max(map(added_by(knowledge), EXPECTED))
    found = fresh(knowledge, most=1000)
    assert found
    assert len(found) == len(set(found))
    assert all(c.batch_size <= BY_LINE[c.line()].largest for c in found)


def test_before_anything_fitted_nothing_is_asked_for() -> None:
    assert fresh(Knowledge()) == []
    ran_out = make_record(FIRST, outcome=Outcome.OOM, peak_bytes=None, budget_bytes=BUDGET_BYTES)
    assert fresh(Knowledge([ran_out])) == []


@pytest.mark.parametrize("seed", range(3))
def test_one_that_followed_asks_for_what_a_new_one_would(seed: int) -> None:
    """However far measurements are from predictions, whatever failed or was measured once more."""
    chance = random.Random(seed)
    growth, knowledge = Growth(FORESIGHT, BUDGET_BYTES), Knowledge([measured(FIRST)])
    asked: list[Candidate] = []
    while next_ones := proposed(growth, knowledge, most=3):
        assert next_ones == fresh(knowledge, most=3)
        [candidate, *_] = next_ones
        asked.append(candidate)
        share = math.exp(chance.gauss(0.1, 0.2))
        if chance.random() < 0.2:
            record = make_record(candidate, outcome=Outcome.OOM, peak_bytes=None, budget_bytes=BUDGET_BYTES)
            knowledge.add(record)
            continue
        knowledge.add(measured(candidate, share))
        if chance.random() < 0.3:
            knowledge.add(measured(candidate, share * 0.9, attempt=2))
    assert fresh(knowledge) == []
    assert len(asked) == len(set(asked)) >= 3


def test_a_measured_line_is_as_far_off_elsewhere() -> None:
    """At a tenth of its forecast on one line nothing of that line is worth anything; the others may be."""
    knowledge = Knowledge([measured(OUTLOOKS[0].line.at(200)), measured(OUTLOOKS[2].line.at(40))])
    line = fresh(knowledge)[0].line()
    other = next(batch for batch in (8, 16) if knowledge.is_available(line.at(batch)))
    before = fresh(knowledge, most=1000)
    knowledge.add(measured(line.at(other), 0.1))
    after = fresh(knowledge, most=1000)
    assert sum(c.line() == line for c in after) < sum(c.line() == line for c in before)
    assert {c.line() for c in after} - {line}


def test_what_is_under_way_is_neither_asked_for_nor_its_like() -> None:
    growth, knowledge = Growth(FORESIGHT, BUDGET_BYTES), Knowledge([measured(FIRST)])
    ahead = proposed(growth, knowledge, most=4)
    begun = []
    for _ in range(4):
        [candidate] = proposed(growth, knowledge)
        growth.begin(candidate)
        knowledge.begin(candidate)
        begun.append(candidate)
    assert begun == ahead  # as if each had come out as expected
    for candidate in begun:
        knowledge.add(measured(candidate))
    assert proposed(growth, knowledge) == fresh(knowledge)


def test_outlooks_that_come_later_count_from_then_on() -> None:
    coming = Foresight([each.line for each in OUTLOOKS])
    coming.add(OUTLOOKS[0])
    growth, knowledge = Growth(coming, BUDGET_BYTES), Knowledge([measured(FIRST)])
    small = measured(OUTLOOKS[2].line.at(40), 0.5)
    knowledge.add(small)  # before its line is predicted
    assert {c.model for c in proposed(growth, knowledge, most=1000)} == {"nano"}
    for each in OUTLOOKS[1:]:
        coming.add(each)
    assert proposed(growth, knowledge, most=1000) == fresh(knowledge, most=1000)


def test_a_line_of_which_a_small_batch_was_measured_is_still_tried_at_its_top() -> None:
    lines = [make_candidate(kernel_version=version).line() for version in ("fast", "v2")]
    first, second = (outlook_of(line, ANY, 100, lambda batch: 1000.0) for line in lines)
    rates = {first.line.at(100): 900.0, second.line.at(10): 890.0}
    knowledge = Knowledge(
        make_record(c, tokens_per_s=rate, budget_bytes=BUDGET_BYTES) for c, rate in rates.items()
    )
    guided = GuidedSearch(Foresight.of([first, second]), RowOrder(()), budget_bytes=BUDGET_BYTES)
    top = second.line.at(top_batch(second))
    assert guided.propose(knowledge, knowledge.is_available) == top
    knowledge.add(make_record(top, tokens_per_s=890.0, budget_bytes=BUDGET_BYTES))
    after = guided.propose(knowledge, knowledge.is_available)
    assert after is not None
    assert after.line() == first.line  # the other one is tried: on around the top of the fastest


def test_another_sequence_with_as_many_tokens_is_expected_to_be_as_far_off() -> None:
    """It is predicted to take less and to be as fast, so it would add much; what was measured took a quarter
    more, and so will it."""
    n_seq = FIRST.axes["n_seq"]
    assert isinstance(n_seq, int)
    longer = replace(OUTLOOKS[0], line=OUTLOOKS[0].line.changed(n_seq=2 * n_seq), largest=100)
    rungs = {batch // 2: rung for batch, rung in OUTLOOKS[0].rungs.items() if batch % 2 == 0}
    longer = replace(longer, rungs=rungs)
    foresight = Foresight.of([OUTLOOKS[0], longer])

    def record(candidate: Candidate, more: float) -> Record:
        forecast = BY_LINE[candidate.line()].forecast(candidate.batch_size)
        peak_bytes = int(forecast.peak_bytes * more)
        rate = forecast.tokens_per_s.expected
        return make_record(candidate, tokens_per_s=rate, peak_bytes=peak_bytes, budget_bytes=BUDGET_BYTES)

    def asked(more: float) -> set[Candidate]:
        line = OUTLOOKS[0].line
        knowledge = Knowledge([record(line.at(batch), more) for batch in sorted(OUTLOOKS[0].rungs)[1:-1]])
        steps, _ = measured_steps(knowledge.first_settled, foresight)
        growth = Growth(foresight, BUDGET_BYTES)
        return {c.line() for c in growth.candidates(knowledge, steps, knowledge.is_available)}

    assert longer.line not in asked(more=1.25)
