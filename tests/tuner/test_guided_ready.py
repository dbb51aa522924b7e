"""The guided search beside compilers: what is ready comes before what is more pressing."""

from __future__ import annotations

from collections.abc import Sequence

from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.foresight import Foresight
from phase8_tune.tuner.search.guided import GuidedSearch
from phase8_tune.tuner.search.strategy import RowOrder
from phase8_tune.tuner.values.candidate import Candidate

from .search_bench import BUDGET_BYTES
from .test_guided import EVERY, Nothing, measured


class Compiler:
    """Makes ready what it is told, and notes what it was asked for."""

    def __init__(self) -> None:
        self.ready: set[Candidate] = set()
        self.asked: list[list[Candidate]] = []
        self.waited_for: list[Candidate] = []  # one by one, where one that is ready is not enough
        self.waited = 0

    def compile_ahead(self, candidates: Sequence[Candidate]) -> None:
        self.asked.append(list(candidates))

    def wait(self, candidates: Sequence[Candidate], timeout_s: float) -> bool:
        self.waited_for += candidates
        return True

    def first_ready(self, candidates: Sequence[Candidate], timeout_s: float) -> Candidate | None:
        assert candidates, "none of nothing is ever ready: that is waited for in vain"
        found = next((candidate for candidate in candidates if candidate in self.ready), None)
        self.waited += found is None
        return found or candidates[0]  # which becomes ready while it is waited for

    def wait_for_check(self, candidate: Candidate, timeout_s: float) -> bool:
        return True


class Late(Foresight):
    """The first outlooks come when the search waits for them."""

    def wait_for_more(self, than: int) -> None:
        for outlook in EVERY:
            self.add(outlook)
        self.complete()


def test_a_search_that_is_there_before_the_first_outlook_waits_for_outlooks_and_for_no_compiler() -> None:
    compiler, knowledge = Compiler(), Knowledge()
    late = Late(outlook.line for outlook in EVERY)
    strategy = GuidedSearch(late, Nothing(), preparation=compiler, budget_bytes=BUDGET_BYTES)
    assert strategy.propose(knowledge, knowledge.is_available) == compiler.asked[0][0]


def test_what_is_ready_is_measured_before_what_is_more_pressing() -> None:
    compiler, knowledge = Compiler(), Knowledge()
    strategy = GuidedSearch(Foresight.of(EVERY), Nothing(), preparation=compiler, budget_bytes=BUDGET_BYTES)
    first = strategy.propose(knowledge, knowledge.is_available)
    assert first == compiler.asked[0][0]  # its check can begin, and what is left is compiled meanwhile
    knowledge.add(measured(first, 10.0))
    second = strategy.propose(knowledge, knowledge.is_available)
    assert (second, compiler.waited) == (compiler.asked[1][0], 1)  # waited for: nothing was ready
    assert second is not None
    knowledge.add(measured(second, 10.0))
    plan = GuidedSearch(Foresight.of(EVERY), Nothing(), preparation=compiler, budget_bytes=BUDGET_BYTES)
    plan.propose(knowledge, knowledge.is_available)  # a session of its own begins
    later = compiler.asked[-1][4]
    compiler.ready = {later}
    assert plan.propose(knowledge, knowledge.is_available) == later
    assert not compiler.waited_for


def test_rows_are_made_ready_in_their_order_and_rejected_ones_are_not() -> None:
    rows = [outlook.line.at(outlook.largest) for outlook in EVERY][:5]
    compiler, knowledge = Compiler(), Knowledge()
    strategy = RowOrder(rows, compiler)
    assert strategy.propose(knowledge, lambda row: False) == rows[0]
    assert not compiler.asked
    assert not compiler.waited_for
    assert strategy.propose(knowledge, knowledge.is_available) == rows[0]
    assert (compiler.asked, compiler.waited_for) == ([rows], [rows[0]])
    knowledge.add(measured(rows[0], 10.0))
    assert strategy.propose(knowledge, knowledge.is_available) == rows[1]
    assert compiler.asked[1] == rows[1:]
