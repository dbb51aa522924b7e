"""Every sampler that a study may name proposes within our space and learns from what it is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from optuna.trial import FrozenTrial

from phase8_tune.tuner.cli import main
from phase8_tune.tuner.measuring.testing import FormulaMeasurer
from phase8_tune.tuner.records import samplers
from phase8_tune.tuner.records.database import StudyStore
from phase8_tune.tuner.records.knowledge import Knowledge
from phase8_tune.tuner.search.proposals import GridOrder
from phase8_tune.tuner.study.definition import Sampler, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.errors import UserInputError
from phase8_tune.tuner.values.record import Record

from .search_bench import BUDGET_BYTES, Bench

STUDY = parse_definition(
    """\
name: bounds
axes:
  model: [nano, small]
  n_seq: [64, 256]
  batch_size: {min: 1, max: 1000}
  kernel_version: [v1, reference]
  gradient_checkpointing: [false, true]
  mixed_precision: [none]
""",
    "bounds",
)
SPACE = SearchSpace(STUDY)
STARTUP, ASKS = 6, 8


@pytest.mark.parametrize("name", get_args(Sampler))
def test_a_sampler_asks_and_learns_in_three_objectives_with_constraints(name: Sampler) -> None:
    if name == "gp":
        pytest.importorskip("scipy")
    store = StudyStore(
        optuna.storages.InMemoryStorage(), SPACE, name="s", seed=0, startup_trials=STARTUP, sampler=name
    )
    knowledge, measurer = Knowledge(), FormulaMeasurer(BUDGET_BYTES)
    for _ in range(ASKS):
        candidate = store.ask()
        assert candidate is not None
        assert candidate in SPACE
        if knowledge.is_settled(candidate):
            store.tell(knowledge.record_of(candidate), knowledge)
            continue
        record = Record(
            digest=candidate.digest(),
            candidate=candidate.identity(),
            trial_number=store.trial_of(candidate),
            attempt=1,
            started_at="",
            budget_bytes=BUDGET_BYTES,
            measurement=measurer.measure(candidate),
        )
        knowledge.add(record)
        store.tell(record, knowledge)
    states = Counter(trial.state.name for trial in store.trials)
    assert states["COMPLETE"] >= 4
    assert states["COMPLETE"] + states["PRUNED"] == ASKS


@pytest.mark.parametrize(("name", "base"), [("gp", "GPSampler"), ("tpe", "TPESampler")])
def test_nothing_is_fitted_for_what_others_chose(
    name: Sampler, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "gp":
        pytest.importorskip("scipy")
    fitted: list[int] = []

    def note(sampler: object, study: object, trial: FrozenTrial, search_space: object) -> dict[str, Any]:
        fitted.append(trial.number)
        return {}

    monkeypatch.setattr(getattr(optuna.samplers, base), "sample_relative", note)
    store = StudyStore(
        optuna.storages.InMemoryStorage(), SPACE, name="s", seed=0, startup_trials=1, sampler=name
    )
    store.trial_of(next(SPACE.enumerate()))
    assert not fitted
    store.ask()
    assert fitted == [1]


def test_a_sampler_whose_package_is_missing_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(samplers, "find_spec", lambda name: None)
    with pytest.raises(UserInputError, match="pip install scipy"):
        samplers.make_sampler("gp", 0, 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["--vram", "1GB", "--device", "cpu", "--sampler", "gp"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "pip install scipy" in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_grid_is_every_listed_batch_in_an_order_that_follows_from_the_seed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(strategy=GridOrder(bench.space, seed=0))
    every = [candidate.digest() for candidate in bench.space.enumerate()]
    assert sorted(bench.measurer.measured) == sorted(every)
    assert bench.measurer.measured != every
    first = GridOrder(bench.space, seed=0).propose(Knowledge(), lambda candidate: True)
    assert first is not None
    assert first.digest() == bench.measurer.measured[0]


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ("{min: 3, max: 99}", [4, 8, 16, 32, 64]),
        ("{min: 5, max: 7}", [5]),
        ("[1, 3, 9]", [1, 3, 9]),
    ],
)
def test_a_grid_between_bounds_has_powers_of_two(batches: str, expected: list[int]) -> None:
    text = f"""\
name: one
axes:
  model: [nano]
  n_seq: [64]
  batch_size: {batches}
  kernel_version: [reference]
  gradient_checkpointing: [false]
  mixed_precision: [none]
"""
    space, knowledge = SearchSpace(parse_definition(text, "one")), Knowledge()
    grid, found = GridOrder(space, seed=0), []
    while (candidate := grid.propose(knowledge, knowledge.is_available)) is not None:
        found.append(candidate.batch_size)
    assert sorted(found) == expected
