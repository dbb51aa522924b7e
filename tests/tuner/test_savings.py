"""Lines that save memory: named in a study, predicted when it is time, tried where memory limits a cell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.predict.outlook import Outlook
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.cells import top_batch
from phase8_tune.tuner.search.foresight import Foresight
from phase8_tune.tuner.search.guided import GuidedSearch
from phase8_tune.tuner.search.savings import WithoutSavings, memory_limits
from phase8_tune.tuner.search.strategy import Strategy
from phase8_tune.tuner.values.candidate import Candidate

from .outlooks import outlook_of
from .report_records import make_candidate, make_record
from .search_bench import BUDGET_BYTES

ANY = range(1, 4097)


def line(checkpointing: str = "none", **changes: object) -> Candidate:
    given: dict[str, object] = {"model": "xl", "n_seq": 256, "kernel_version": "fast"}
    return make_candidate(**(given | {"gradient_checkpointing": checkpointing} | changes)).line()


def rising(rate: float, half: int = 4) -> Callable[[int], float]:
    """Half of the rate at that batch."""
    return lambda batch: rate * batch / (batch + half)


def half_fixed(outlook: Outlook) -> Outlook:
    """The same, of which half of the budget does not grow with the batch."""
    rungs = {
        batch: replace(rung, peak_bytes=(rung.peak_bytes + BUDGET_BYTES) // 2)
        for batch, rung in outlook.rungs.items()
    }
    return replace(outlook, rungs=rungs)


PLAIN = half_fixed(outlook_of(line("none"), ANY, 4, rising(1000.0, half=2)))
SLOWER = half_fixed(outlook_of(line("full"), ANY, 40, rising(750.0, half=2)))
SMALL = outlook_of(line("none", optimizer_state="8bit"), ANY, 8, rising(990.0, half=2))
USELESS = outlook_of(line("full", optimizer_state="8bit"), ANY, 42, rising(740.0, half=2))


class Served(Foresight):
    """What is asked for is there at once."""

    def __init__(self, outlooks: Iterable[Outlook], savings: Sequence[Outlook]) -> None:
        known = list(outlooks)
        super().__init__([outlook.line for outlook in known], [outlook.line for outlook in savings])
        self.answers = {outlook.line: outlook for outlook in savings}
        for outlook in known:
            self.add(outlook)
        self.served: list[Candidate] = []
        self.take_asked(lambda: True)

    def ask(self, lines: Iterable[Candidate]) -> None:
        super().ask(lines)
        for asked in self.take_asked(lambda: True):
            self.served.append(asked)
            self.add(self.answers[asked])
        self.take_asked(lambda: True)


class Nothing(Strategy):
    """Proposes nothing, and notes what it may."""

    has_plan = False

    def __init__(self, lines: Sequence[Candidate] = ()) -> None:
        self.lines, self.open = lines, [False for _ in lines]

    def propose(self, knowledge: Knowledge, is_open: Callable[[Candidate], bool]) -> Candidate | None:
        self.open = [is_open(each.at(333)) for each in self.lines]
        return None


def follow(
    foresight: Served, then: Strategy | None = None, off: float = 1.0
) -> tuple[list[Candidate], list[int]]:
    """What is proposed, where all measure at their predicted rate times `off`; and how many lines had been
    asked for before each."""
    strategy = GuidedSearch(foresight, then or Nothing(), budget_bytes=BUDGET_BYTES)
    knowledge, found, served = Knowledge(), [], []
    while (candidate := strategy.propose(knowledge, knowledge.is_available)) is not None:
        served.append(len(foresight.served))
        by_line = {outlook.line: outlook for outlook in foresight.known}
        forecast = by_line[candidate.line()].forecast(candidate.batch_size)
        if not strategy.is_repeat:
            found.append(candidate)
        record = make_record(
            candidate,
            tokens_per_s=forecast.tokens_per_s.expected * off,
            peak_bytes=min(forecast.peak_bytes, BUDGET_BYTES),
            budget_bytes=BUDGET_BYTES,
            attempt=len(knowledge.attempts(candidate)) + 1,
        )
        knowledge.add(record)
        assert len(served) < 300
    return found, served


@pytest.mark.parametrize("off", [0.7, 1.0, 1.4])
def test_a_saving_is_tried_once_the_best_of_a_limited_cell_is_known(off: float) -> None:
    foresight = Served([PLAIN, SLOWER], [SMALL, USELESS])
    found, served = follow(foresight, off=off)
    assert served[0] == 0
    assert found[0] == SLOWER.line.at(40)
    assert set(foresight.served) == {SMALL.line, USELESS.line}
    assert found.index(SMALL.line.at(top_batch(SMALL))) < 4
    # What promises no gain is measured for the frontier at most, and never at its top first
    tried = [c for c in found if c.line() == USELESS.line]
    assert not tried or found.index(tried[0]) > found.index(SMALL.line.at(top_batch(SMALL)))


def test_where_memory_does_not_limit_nothing_is_asked_for() -> None:
    saturated = half_fixed(outlook_of(line("none"), ANY, 400, rising(1000.0, half=1)))
    foresight = Served([saturated, SLOWER], [SMALL, USELESS])
    found, _ = follow(foresight)
    assert foresight.served == []
    assert {c.line() for c in found} <= {saturated.line, SLOWER.line}


def test_where_nothing_fits_savings_are_asked_for_at_once() -> None:
    over = [outlook_of(each.line, ANY, 0, rising(500.0)) for each in (PLAIN, SLOWER)]
    found, served = follow(Served(over, [SMALL, USELESS]))
    assert served[0] == 2
    assert found[0] == SMALL.line.at(top_batch(SMALL))


def test_nobody_measures_what_was_put_off() -> None:
    saturated = outlook_of(line("none"), ANY, 400, rising(1000.0, half=1))
    then = Nothing([saturated.line, SMALL.line])
    follow(Served([saturated], [SMALL]), then)
    assert then.open == [True, False]
    alone = Nothing([saturated.line, SMALL.line])
    WithoutSavings(alone, [SMALL.line]).propose(Knowledge(), lambda _: True)
    assert alone.open == [True, False]


def test_a_search_does_not_wait_for_what_nobody_asked_for() -> None:
    foresight = Foresight([PLAIN.line, SMALL.line], [SMALL.line])
    foresight.add(PLAIN)
    assert not foresight.is_complete
    assert foresight.take_asked(lambda: True) == []
    assert foresight.is_complete
    assert foresight.outlook(SMALL.line) is None
    foresight.ask([SMALL.line, PLAIN.line])
    assert (foresight.is_complete, foresight.is_whole) == (False, True)
    asking = threading.Thread(target=lambda: foresight.wait_for_more(than=1))
    asking.start()
    assert foresight.take_asked(lambda: True) == [SMALL.line]
    foresight.add(SMALL)
    asking.join(timeout=10)
    assert not asking.is_alive()
    assert foresight.take_asked(lambda: True) == []
    assert foresight.is_complete
    foresight.ask([SMALL.line])
    assert foresight.is_complete


def test_what_is_asked_for_after_the_end_is_waited_for_by_nobody() -> None:
    foresight = Foresight([PLAIN.line], [SMALL.line])
    foresight.complete()
    foresight.ask([SMALL.line])
    assert foresight.is_complete
    assert foresight.outlook(SMALL.line) is None


@given(
    rates=st.lists(st.floats(1, 1e6), min_size=1, max_size=4),
    largest=st.lists(st.integers(0, 500), min_size=4, max_size=4),
    half=st.integers(0, 100),
)
def test_memory_limits_only_what_more_of_it_makes_faster(
    rates: list[float], largest: list[int], half: int
) -> None:
    lines = [line(vocab_size=100 + number) for number in range(len(rates))]
    outlooks = [
        outlook_of(each, ANY, most, rising(rate, half))
        for each, most, rate in zip(lines, largest, rates, strict=False)
    ]
    fitting = [outlook for outlook in outlooks if outlook.largest]
    for own in fitting:
        top = top_batch(own)
        now = own.forecast(top).tokens_per_s.expected
        ever = max(outlook.forecast(100_000).tokens_per_s.expected for outlook in outlooks)
        if memory_limits(outlooks, own.line, top):
            assert ever * 1.0001 > 1.03 * now
        # At less than its largest batch a line alone wants no memory
        assert not memory_limits([own], own.line, 1) or top == 1
    assert not fitting or not memory_limits(fitting[:1], line(n_seq=512), 1)
