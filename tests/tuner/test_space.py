"""The search space as Optuna sees it."""

from __future__ import annotations

import optuna
import pytest

from phase8_tune.tuner.study.definition import StudyDefinition, load_definition, parse_definition
from phase8_tune.tuner.study.space import SearchSpace
from phase8_tune.tuner.values.candidate import Candidate

AXES = """\
name: tiny
axes:
  model: [small, nano]
  n_seq: [128, 64]
  batch_size: [4, 1, 2]
  kernel_version: [reference]
  gradient_checkpointing: [false, true]
  mixed_precision: [none]
"""


@pytest.fixture
def tiny() -> StudyDefinition:
    return parse_definition(AXES, "tiny")


def test_the_product_is_enumerated_once_each(tiny: StudyDefinition) -> None:
    space = SearchSpace(tiny)
    candidates = list(space.enumerate())
    assert len(candidates) == space.size() == 2 * 2 * 3 * 2
    assert len({c.digest() for c in candidates}) == len(candidates)


@pytest.mark.parametrize("name", ["tiny", "seed_table"])
def test_suggesting_a_candidates_parameters_gives_it_back(name: str, tiny: StudyDefinition) -> None:
    space = SearchSpace(tiny if name == "tiny" else load_definition(name))
    for candidate in space.enumerate():
        trial = optuna.trial.FixedTrial(space.parameters_of(candidate))
        assert space.suggest(trial) == candidate


def test_batch_and_sequence_are_ordinal_and_sorted(tiny: StudyDefinition) -> None:
    space = SearchSpace(tiny)
    smallest = min(space.enumerate(), key=lambda c: (c.batch_size, c.n_seq))
    assert space.parameters_of(smallest)["batch_size_index"] == 0
    assert space.parameters_of(smallest)["n_seq_index"] == 0
    kinds = {name: type(d).__name__ for name, d in space.distributions().items()}
    assert {name for name, kind in kinds.items() if kind == "IntDistribution"} == {
        "n_seq_index",
        "batch_size_index",
    }


def test_the_distributions_are_those_that_suggest_uses(tiny: StudyDefinition) -> None:
    space = SearchSpace(tiny)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    space.suggest(trial)
    assert trial.distributions == space.distributions()


def test_a_candidate_outside_is_refused(tiny: StudyDefinition) -> None:
    space = SearchSpace(tiny)
    inside = next(space.enumerate())
    outside = Candidate.from_dict(inside.to_dict() | {"batch_size": 3})
    with pytest.raises(ValueError, match=r"batch_size: expected one of \(1, 2, 4\), got 3"):
        space.parameters_of(outside)


def test_rows_are_the_only_candidates_of_their_rectangle() -> None:
    definition = load_definition("seed_table")
    space = SearchSpace(definition)
    assert space.is_rows
    assert tuple(space.enumerate()) == definition.row_candidates()
    assert space.size() == 52
