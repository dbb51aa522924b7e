"""What a sampler asks for is brought to the nearest candidate that is open, and its trial is of that."""

from __future__ import annotations

import functools
import math
from collections import Counter
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from phase8_tune.tuner.measuring.pool import LocalExecutor
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records.database import StudyStore, open_sqlite
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.nearest import OpenCandidates
from phase8_tune.tuner.search.progress import StopReason
from phase8_tune.tuner.search.search import run_search
from phase8_tune.tuner.study.definition import Sampler, SearchSettings, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.outcome import Outcome

from .report_records import make_record
from .search_bench import BUDGET_BYTES

UNION = parse_definition(
    """\
name: union
axes:
  - model: [nano, small]
    n_seq: [64, 256, 1024]
    batch_size: {min: 1, max: 4096}
    kernel_version: [fast]
    gradient_checkpointing: [false, true]
    mixed_precision: [bf16]
  - model: [nano]
    n_seq: [64]
    batch_size: {min: 3, max: 40}
    kernel_version: [reference, fast]
    gradient_checkpointing: [false]
    mixed_precision: [bf16, none]
search: {startup_trials: 4}
""",
    "union",
)
SPACE = SearchSpace(UNION)
LISTED = SearchSpace(
    parse_definition(
        """\
name: listed
axes:
  model: [nano, small]
  n_seq: [64, 256]
  batch_size: [1, 2, 3, 5, 8]
  kernel_version: [reference]
  gradient_checkpointing: [false]
  mixed_precision: [none]
""",
        "listed",
    )
)
WIDE = next(line for line in SPACE.lines if SPACE.batches(line) == range(1, 4097))


def test_what_is_open_is_taken_as_it_is() -> None:
    candidates = OpenCandidates(SPACE)
    for batch in (1, 77, 4096):
        assert candidates.nearest(WIDE.at(batch), Knowledge(), lambda _: True) == WIDE.at(batch)


def test_what_is_rejected_comes_to_the_largest_that_is_not_in_few_questions() -> None:
    asked: list[Candidate] = []

    def is_open(candidate: Candidate) -> bool:
        asked.append(candidate)
        return candidate.batch_size <= 360

    candidates, knowledge = OpenCandidates(SPACE), Knowledge()
    assert candidates.nearest(WIDE.at(4000), knowledge, is_open) == WIDE.at(360)
    assert len(asked) <= 2 + math.log2(4096)
    del asked[:]
    assert candidates.nearest(WIDE.at(3000), knowledge, is_open) == WIDE.at(360)
    assert len(asked) == 1  # the border is known by now


def test_what_is_settled_comes_to_the_nearest_batch_in_proportion() -> None:
    candidates = OpenCandidates(SPACE)
    knowledge = Knowledge([make_record(WIDE.at(batch)) for batch in (7, 8, 9)])
    assert candidates.nearest(WIDE.at(8), knowledge, knowledge.is_available) == WIDE.at(10)
    knowledge.begin(WIDE.at(10))
    assert candidates.nearest(WIDE.at(8), knowledge, knowledge.is_available) == WIDE.at(6)


def test_what_is_not_of_the_space_keeps_its_cell_where_it_can() -> None:
    """No version but `fast` has other lengths: another version is nearer than another length."""
    wide = SPACE.parameters_of(WIDE.at(5))
    between = {**wide, "n_seq_index": 2, "kernel_version": "reference", "mixed_precision": "none"}
    asked = SPACE.suggest(FixedTrial(between))
    assert asked not in SPACE
    found = OpenCandidates(SPACE).nearest(asked, Knowledge(), lambda _: True)
    assert found is not None
    assert SPACE.parameters_of(found) == {**wide, "n_seq_index": 2}


def test_between_bounds_another_batch_is_told_apart_as_long_as_there_is_one() -> None:
    """A twenty-fourth more or less tells nothing new; at the end it is measured nevertheless."""
    few = SearchSpace(
        parse_definition(
            """\
name: few
axes:
  model: [nano]
  n_seq: [64]
  batch_size: {min: 96, max: 104}
  kernel_version: [reference]
  gradient_checkpointing: [false]
  mixed_precision: [none, bf16]
""",
            "few",
        )
    )
    knowledge = Knowledge([make_record(WIDE.at(480))])
    candidates = OpenCandidates(SPACE)
    assert candidates.nearest(WIDE.at(479), knowledge, knowledge.is_available) == WIDE.at(459)
    one, other = few.lines
    knowledge, candidates, found = Knowledge(), OpenCandidates(few), []
    while (candidate := candidates.nearest(one.at(96), knowledge, knowledge.is_available)) is not None:
        knowledge.begin(candidate)
        found.append(candidate)
    assert found[:4] == [one.at(96), one.at(101), other.at(96), other.at(101)]
    assert sorted(c.batch_size for c in found) == sorted([*range(96, 105)] * 2)
    assert len(set(found)) == len(found) == few.size()


@pytest.mark.parametrize(("fitted", "tried"), [(4, 11), (None, 5), (31, 29)])
def test_what_may_run_out_again_is_halfway_to_what_fitted(fitted: int | None, tried: int) -> None:
    """A batch of 32 ran out of memory: the next below it is likely to, as well."""
    records = [make_record(WIDE.at(32), outcome=Outcome.OOM)]
    records += [make_record(WIDE.at(fitted))] if fitted else []
    knowledge = Knowledge(records)

    def is_open(candidate: Candidate) -> bool:
        return knowledge.is_available(candidate) and candidate.batch_size < 32

    assert OpenCandidates(SPACE).nearest(WIDE.at(100), knowledge, is_open) == WIDE.at(tried)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_comes_is_open_and_comes_until_nothing_is(data: st.DataObject) -> None:
    """Whatever the largest batch of each line is that is not rejected, and whatever is settled before."""
    lines, batches = LISTED.lines, LISTED.batches(LISTED.lines[0])
    largest = dict(
        zip(lines, data.draw(st.tuples(*[st.sampled_from((0, *batches))] * len(lines))), strict=True)
    )
    every = list(LISTED.enumerate())
    knowledge = Knowledge([make_record(c) for c in data.draw(st.lists(st.sampled_from(every), unique=True))])

    def is_open(candidate: Candidate) -> bool:
        return knowledge.is_available(candidate) and candidate.batch_size <= largest[candidate.line()]

    candidates = OpenCandidates(LISTED)
    left = {candidate for candidate in every if is_open(candidate)}
    while True:
        asked = data.draw(st.sampled_from(every))
        found = candidates.nearest(asked, knowledge, is_open)
        if found is None:
            break
        assert candidates.nearest(found, knowledge, is_open) == found
        assert found == asked or asked not in left
        of_line = [candidate for candidate in left if candidate.line() == asked.line()]
        if of_line:
            assert found == min(
                of_line, key=lambda c: (abs(math.log(c.batch_size / asked.batch_size)), c.batch_size)
            )
        left.remove(found)
        knowledge.add(make_record(found))
    assert not left


def test_a_trial_has_the_parameters_of_what_was_taken_instead() -> None:
    store = StudyStore(optuna.storages.InMemoryStorage(), SPACE, name="s", seed=0, startup_trials=2)
    taken = [WIDE.at(batch) for batch in (5, 9, 17)]
    for candidate in taken:
        instead = functools.partial(lambda found, _: found, candidate)
        assert store.ask(instead) == candidate
        store.tell(make_record(candidate, trial_number=store.trial_of(candidate)), Knowledge())
    assert store.ask(lambda _: None) is None
    states = [trial.state.name for trial in store.trials]
    assert len(states) == 4
    assert states[-1] == "FAIL"
    assert [trial.params for trial in store.trials[:3]] == [SPACE.parameters_of(each) for each in taken]


def test_what_a_dead_driver_left_in_the_queue_is_not_taken_for_the_samplers_choice() -> None:
    store = StudyStore(optuna.storages.InMemoryStorage(), SPACE, name="s", seed=0, startup_trials=2)
    store._study.enqueue_trial(SPACE.parameters_of(WIDE.at(5)))
    assert store.ask(lambda _: WIDE.at(7)) == WIDE.at(7)
    assert [trial.state.name for trial in store.trials] == ["FAIL", "RUNNING"]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_every_ask_is_a_measurement(tmp_path: Path, sampler: Sampler) -> None:
    """Between the products of a union, over bounds most of which do not fit, with no outlook."""
    search = SearchSettings(trials=60, startup_trials=4, sampler=sampler)
    definition, measurer = UNION.model_copy(update={"search": search}), FormulaMeasurer(BUDGET_BYTES)
    with LocalExecutor({"made up": measurer}, on_loss=print) as pool:
        result = run_search(
            definition, pool, tmp_path / "run", budget_bytes=BUDGET_BYTES, on_event=lambda _: None
        )
    assert result.stop_reason is StopReason.TRIALS
    assert len(measurer.measured) == len(set(measurer.measured)) == 60
    database = open_sqlite(tmp_path / "run" / "study.db")
    states = [trial.state.name for trial in optuna.load_study(study_name=None, storage=database).trials]
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert len(states) == 60
    over = Counter(r.to_candidate().line() for r in result.records if not r.fits)
    assert over
    assert max(over.values()) <= math.log2(4096)
