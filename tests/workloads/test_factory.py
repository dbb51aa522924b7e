"""Factories run as workloads: the step they describe, and what they may do wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from phase8_tune.tuner.values.candidate import Candidate
from phase8_tune.tuner.values.outcome import Outcome
from phase8_tune.tuner.worker.attempt import explain
from phase8_tune.tuner.workloads import PositionedRun, load_factory, load_workload
from phase8_tune.tuner.workloads.factory import FactoryRun, WorkloadError
from phase8_tune.tuner.workloads.global_state import GlobalState
from phase8_tune.tuner.workloads.spec import spec_of
from phase8_tune.tuner.workloads.stepping import TrainingStepper
from phase8_tune.tuner.workloads.training import Build, Training

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


def test_gradients_are_clipped_as_by_hand() -> None:
    """Those of all modules together, before the optimizer's step; a step clips by itself."""

    def training(**clipping: Any) -> Training:
        torch.manual_seed(0)
        modules = [torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)]
        return Training(
            modules=modules,
            batch=lambda: torch.ones(2, 4),
            optimizers=[torch.optim.SGD(module.parameters(), lr=1.0) for module in modules],
            loss=lambda batch: 10 * modules[1](modules[0](batch)).sum(),
            **clipping,
        )

    clipped, by_hand = training(max_gradient_norm=0.5), training()
    TrainingStepper(clipped, "cpu").step(clipped.batch())
    assert by_hand.loss is not None
    by_hand.loss(by_hand.batch()).backward()
    parameters = [p for module in by_hand.modules for p in module.parameters()]
    assert float(torch.nn.utils.clip_grad_norm_(parameters, 0.5)) > 0.5
    for optimizer in by_hand.optimizers:
        optimizer.step()
    for one, other in zip((p for m in clipped.modules for p in m.parameters()), parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    for wrong in (0.0, float("nan")):
        with pytest.raises(ValueError, match="max_gradient_norm: expected a number above 0"):
            training(max_gradient_norm=wrong)
    with pytest.raises(ValueError, match="max_gradient_norm: expected none beside a step"):
        Training(modules=[], batch=list, step=lambda batch: torch.ones(()), max_gradient_norm=1.0)


def test_a_candidate_s_life_ends_with_an_evaluation() -> None:
    """Of the loss, without gradients, on modules that evaluate; of a forward pass, or a whole step, none."""
    factory = load_factory(f"{OWN}:build")
    assert factory is not None
    training = factory(Build(model="narrow", batch_size=4, axes=dict(candidate_of().axes), device=CPU))
    seen: list[tuple[bool, bool]] = []
    plain_loss = training.loss
    assert plain_loss is not None

    def loss(batch: Any) -> torch.Tensor:
        seen.append((torch.is_grad_enabled(), training.modules[0].training))
        return plain_loss(batch)

    training.loss = loss
    for mode, expected in (("train", [(True, True), (False, False)]), ("forward", [(False, False)])):
        seen.clear()
        run = FactoryRun(training, candidate_of(mode=mode), CPU, GlobalState.now())
        run.run_once()
        run.finish()
        assert seen == expected
    training.loss, training.step = None, plain_loss
    run = FactoryRun(training, candidate_of(), CPU, GlobalState.now())
    run.finish()


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
    outcome, message, _ = explain(caught.value)
    assert re.search(told, message), message
    assert outcome is Outcome.OWN_ERROR


@pytest.mark.parametrize(
    ("factory", "outcome"),
    [
        ("out_of_memory", Outcome.OOM),
        ("device_fails", Outcome.ERROR),
        ("kernel_fails", Outcome.ILLEGAL_ACCESS),
    ],
)
def test_what_the_device_did_in_own_code_is_not_its_fault(factory: str, outcome: Outcome) -> None:
    with pytest.raises(RuntimeError) as caught:
        prepared(factory)
    found, message, _ = explain(caught.value)
    assert found is outcome
    assert re.search(r"own_model\.py:\d+", message)


def test_parts_of_a_step_are_one_update() -> None:
    """Two parts of the same batch are the step on it."""
    axes: dict[str, Any] = {"n_seq": 16, "vocab_size": 100, "mixed_precision": "none"}
    losses = []
    for parts in (1, 2):
        named = axes | {"gradient_accumulation": parts}
        candidate = Candidate(workload="transformer", model="64x1", batch_size=2, axes=named)
        assert candidate.items_per_step == parts * 32
        run = load_workload("transformer").prepare(candidate, CPU, 0)
        losses.append([float(run.run_once()) for _ in range(3)])
        run.close()
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][2] < losses[0][0]


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
