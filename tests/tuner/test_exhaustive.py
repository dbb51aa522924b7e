"""The exhaustive search: every batch of a list, a ladder between bounds, nothing twice, to the end."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.commands.request import RunRequest, read_study
from phase8_tune.tuner.measuring.pool import LocalExecutor
from phase8_tune.tuner.measuring.testing import FormulaMeasurer, formula
from phase8_tune.tuner.predict.outlook import Outlook
from phase8_tune.tuner.records.journal import read_records
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.records.run_directory import RunPaths
from phase8_tune.tuner.search.exhaustive import Exhaustive, ladder
from phase8_tune.tuner.search.foresight import Foresight
from phase8_tune.tuner.search.progress import SearchResult, StopReason
from phase8_tune.tuner.search.search import run_search
from phase8_tune.tuner.search.strategy import Preparation
from phase8_tune.tuner.study.definition import StudyDefinition, load_definition, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate

from .outlooks import outlook_of
from .search_bench import AXES, BUDGET_BYTES

STUDY = parse_definition(
    """\
name: whole
axes:
  - {model: [nano], n_seq: [64, 256], batch_size: {min: 1, max: 4096}, kernel_version: [fast],
     gradient_checkpointing: [false, true], mixed_precision: [none]}
  - {model: [small], n_seq: [256], batch_size: [1, 3, 5, 9999], kernel_version: [reference],
     gradient_checkpointing: [false], mixed_precision: [none]}
search: {exhaustive: true, trials: 1000}
""",
    "whole",
)
SPACE = SearchSpace(STUDY)
KNOWLEDGE = Knowledge()


@functools.cache
def largest_of(line: Candidate) -> int:
    batches = SPACE.batches(line)
    place = bisect.bisect_right(batches, BUDGET_BYTES, key=lambda batch: formula(line.at(batch))[1])
    return batches[place - 1] if place else 0


OUTLOOKS = [
    outlook_of(line, SPACE.batches(line), largest_of(line), lambda b: b + 1.0) for line in SPACE.lines
]
EXPECTED = {
    outlook.line.at(batch)
    for outlook in OUTLOOKS
    for batch in ladder(SPACE.batches(outlook.line), outlook.largest)
}


@dataclass
class Prepared(Preparation):
    """Notes what is to be made ready, and that it was waited for."""

    asked: list[Sequence[Candidate]] = field(default_factory=list)
    waited: list[Candidate] = field(default_factory=list)

    def compile_ahead(self, candidates: Sequence[Candidate]) -> None:
        self.asked.append(list(candidates))

    def wait(self, candidates: Sequence[Candidate], timeout_s: float) -> bool:
        self.waited += candidates
        return True

    def first_ready(self, candidates: Sequence[Candidate], timeout_s: float) -> Candidate | None:
        return candidates[0]

    def wait_for_check(self, candidate: Candidate, timeout_s: float) -> bool:
        return True


def run(
    folder: Path,
    measurer: FormulaMeasurer,
    outlooks: Sequence[Outlook] | None,
    study: StudyDefinition = STUDY,
) -> SearchResult:
    foresight = None if outlooks is None else Foresight.of(outlooks)
    with LocalExecutor({"only": measurer}, on_loss=lambda text: None) as pool:
        return run_search(
            study,
            pool,
            folder,
            budget_bytes=BUDGET_BYTES,
            on_event=lambda event: None,
            foresight=foresight,
        )


@given(low=st.integers(1, 40), largest=st.integers(0, 5000))
def test_a_ladder_between_bounds_has_the_powers_of_two_and_several_near_the_largest(
    low: int, largest: int
) -> None:
    found = ladder(range(low, 16385), largest)
    assert list(found) == sorted(set(found))
    assert all(low <= batch <= largest for batch in found)
    powers = [2**n for n in range(15) if low <= 2**n <= largest]
    assert set(powers) <= set(found)
    assert len(found) <= len(powers) + 5
    if largest >= 4 * low:
        assert found[-1] >= largest * 31 / 32
        assert len([batch for batch in found if batch >= largest / 2]) >= min(4, largest // 4)
    assert bool(found) == (largest >= low)


def test_everything_that_fits_is_measured_once_line_after_line(tmp_path: Path) -> None:
    measurer = FormulaMeasurer(BUDGET_BYTES)
    result = run(tmp_path, measurer, OUTLOOKS)
    assert result.stop_reason is StopReason.EXHAUSTED
    found = [record.to_candidate() for record in read_records(RunPaths(root=tmp_path).journal)]
    assert len(found) == len(set(found)) == len(measurer.measured)
    assert set(found) == EXPECTED
    lines = [line for line, _ in itertools.groupby(found, key=Candidate.line)]
    assert lines == [outlook.line for outlook in OUTLOOKS if outlook.largest]


@pytest.mark.parametrize("stop_after", [1, 7, 20])
def test_it_goes_on_where_it_was_stopped(tmp_path: Path, stop_after: int) -> None:
    limited = STUDY.model_copy(update={"search": STUDY.search.model_copy(update={"trials": stop_after})})
    first, second = FormulaMeasurer(BUDGET_BYTES), FormulaMeasurer(BUDGET_BYTES)
    assert run(tmp_path, first, OUTLOOKS, limited).stop_reason is StopReason.TRIALS
    assert run(tmp_path, second, OUTLOOKS).stop_reason is StopReason.EXHAUSTED
    assert len(first.measured) == stop_after
    assert sorted(first.measured + second.measured) == sorted(c.digest() for c in EXPECTED)


def test_without_predictions_a_line_goes_up_until_it_does_not_fit(tmp_path: Path) -> None:
    measurer = FormulaMeasurer(BUDGET_BYTES)
    run(tmp_path, measurer, None)
    records = read_records(RunPaths(root=tmp_path).journal)
    launched = [record.to_candidate() for record in records if record.attempt]
    for line in SPACE.lines:
        batches = [c.batch_size for c in launched if c.line() == line]
        assert batches == sorted(batches)
        assert batches[:-1] == [b for b in batches if b <= largest_of(line)] or batches[-1] <= largest_of(
            line
        )
    assert sum(not record.fits for record in records if record.attempt) <= len(SPACE.lines)


def test_what_comes_next_is_made_ready_across_lines() -> None:
    prepared, settled = Prepared(), set[Candidate]()
    strategy = Exhaustive(SPACE, Foresight.of(OUTLOOKS), preparation=prepared)
    whole = strategy.left
    found: list[Candidate] = []
    while (candidate := strategy.propose(KNOWLEDGE, lambda c: c not in settled)) is not None:
        found.append(candidate)
        settled.add(candidate)
        assert strategy.left == whole - len(found)
    assert prepared.waited == found
    assert [asked[:2] for asked in prepared.asked[:-1]] == [list(pair) for pair in itertools.pairwise(found)]


def test_the_first_line_is_measured_before_the_last_is_known() -> None:
    foresight = Foresight(SPACE.lines)
    foresight.add(OUTLOOKS[0])
    strategy = Exhaustive(SPACE, foresight)
    first = strategy.propose(KNOWLEDGE, lambda c: True)
    assert first is not None
    assert first.line() == OUTLOOKS[0].line


def test_checks_come_last() -> None:
    check = OUTLOOKS[0].line.at(OUTLOOKS[0].largest + 1)
    strategy = Exhaustive(SPACE, Foresight.of(OUTLOOKS), checks=[check])
    found = list(iter(lambda: strategy.propose(KNOWLEDGE, lambda c: True), None))
    assert found[-1] == check
    assert set(found) == EXPECTED | {check}


@pytest.mark.parametrize(("asked", "trials"), [(None, 5), (True, None)])
def test_the_option_takes_the_study_s_limit_of_trials_away(
    asked: bool | None, trials: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(AXES.replace("startup_trials: 4", "trials: 5"), encoding="utf-8")
    request = RunRequest(vram_bytes=BUDGET_BYTES, command="", exhaustive=asked)
    definition, _ = read_study(str(path), request)
    assert (definition.search.exhaustive, definition.search.trials) == (bool(asked), trials)
    assert definition.digest() == load_definition(str(path)).digest()
    definition, _ = read_study(str(path), dataclasses.replace(request, trials=3))
    assert definition.search.trials == 3
