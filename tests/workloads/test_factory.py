"""Factories run as workloads: the step they describe, and what they may do wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.worker.attempt import explain
from phase8_tune.tuner.workloads import PositionedRun, load_factory, load_workload
from phase8_tune.tuner.workloads.factory import FactoryRun, WorkloadError
from phase8_tune.tuner.workloads.global_state import GlobalState
from phase8_tune.tuner.workloads.spec import spec_of

OWN = Path(__file__).with_name("own_model.py")
CPU = torch.device("cpu")


def candidate_of(factory: str = "build", **changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "workload": f"{OWN}:{factory}",
        "model": "narrow",
        "batch_size": 4,
        "size": 8,
        "precision": "none",
        "smooth": False,
    }
    return Candidate(**(fields | changes))


def prepared(factory: str = "build", **changes: Any) -> Any:
    candidate = candidate_of(factory, **changes)
    return load_workload(candidate.workload).prepare(candidate, CPU, seed=0)


@pytest.mark.parametrize("precision", ["none", "bf16"])
def test_steps_train(precision: str) -> None:
    run = prepared(precision=precision)
    assert isinstance(run, PositionedRun)
    assert run.parameters == run.body_parameters == (3 * 9 + 1) * 4 + 2 * 4 + (6 * 6 * 4 + 1) * 10
    losses = [float(run.run_once()) for _ in range(5)]
    assert losses[-1] < losses[0]
    run.close()


def test_a_forward_pass_changes_nothing() -> None:
    run = prepared(mode="forward")
    first, second = run.run_once(), run.run_once()
    assert first == second
    assert not first.requires_grad


def test_a_built_in_factory_runs_and_its_position_table_is_no_size() -> None:
    spec_of("transformer")
    candidate = Candidate(
        workload="transformer", model="64x1", batch_size=2, n_seq=16, family="gpt2", mixed_precision="none"
    )
    run = load_workload("transformer").prepare(candidate, CPU, seed=0)
    assert isinstance(run, FactoryRun)
    assert run.parameters - run.body_parameters == 16 * 64
    assert run.run_once().shape == ()
    assert load_factory("transformer") is not None
    assert load_factory("phase8") is None


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("raises", r"KeyError: 'no such layer' \(.*own_model\.py:\d+\)"),
        ("ends", r"WorkloadError: the workload's code called sys\.exit\(3\) \(.*own_model\.py:\d+\)"),
        ("nothing", r"expected nothing \(.*own_model\.py:\d+\) to return a Training, got NoneType"),
        (
            "vector_loss",
            r"expected <lambda> \(.*own_model\.py:\d+\) to return a scalar tensor, got a tensor",
        ),
    ],
)
def test_what_a_factory_does_wrong_is_told_with_its_place(factory: str, told: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011, as whatever is raised is explained
        prepared(factory).run_once()
    _, message, _ = explain(caught.value)
    assert re.search(told, message), message


def test_a_step_has_no_forward_pass() -> None:
    module: Any = sys.modules[load_factory(f"{OWN}:build").__module__]
    training = module.build(
        module.Build(model="narrow", batch_size=2, axes=dict(candidate_of().axes), device=CPU)
    )
    training.step, training.loss = training.loss, None
    with pytest.raises(WorkloadError, match="mode forward: expected a Training that has a loss"):
        FactoryRun(training, candidate_of(mode="forward"), CPU, GlobalState.now())


@pytest.mark.parametrize("factory", ["sets", "sets_and_raises"])
def test_what_it_sets_for_the_whole_process_is_undone(factory: str) -> None:
    before = GlobalState.now()
    if factory == "sets":
        run = prepared(factory)
        assert GlobalState.now() != before
        run.run_once()
        run.close()
    else:
        with pytest.raises(KeyError):
            prepared(factory)
    assert GlobalState.now() == before


def test_what_is_neither_a_factory_nor_a_workload_is_refused() -> None:
    for load in (load_workload, load_factory):
        with pytest.raises(Exception, match="to be a factory"):
            load(f"{OWN}:NO_FACTORY")
