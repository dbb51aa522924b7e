"""The examples of docs/examples: each is short, makes what is asked for, and learns."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

import phase8_tune
from phase8_tune.tuner.workloads.stepping import TrainingStepper
from phase8_tune.tuner.workloads.training import Build, Factory

EXAMPLES = Path(phase8_tune.__file__).resolve().parent / "docs" / "examples"
CPU, META = torch.device("cpu"), torch.device("meta")
CASES = {
    "text_model": ("narrow", {"n_seq": 24}),
    "image_classifier": ("tiny", {"size": 16}),
    "gan": ("small", {"size": 8}),
}

pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="phase8_tune is installed without its sources")
EACH = pytest.mark.parametrize("name", CASES)


def factory_of(name: str) -> Factory:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    factory: Factory = module.factory
    return factory


def asked(name: str, device: torch.device = CPU, batch_size: int = 8, precision: str = "none") -> Build:
    model, axes = CASES[name]
    return Build(model=model, batch_size=batch_size, axes={**axes, "precision": precision}, device=device)


def test_every_example_is_tested_and_short() -> None:
    files = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in files] == sorted(CASES)
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path.name


def has_bf16_lstm() -> bool:
    """Whether this processor's library computes an LSTM in bfloat16."""
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            nn.LSTM(4, 4)(torch.zeros(2, 1, 4))
    except RuntimeError:
        return False
    return True


@EACH
@pytest.mark.parametrize("precision", ["none", "bf16"])
def test_a_step_changes_every_weight(name, precision):
    if name == "text_model" and precision == "bf16" and not has_bf16_lstm():
        pytest.skip("this processor's library has no LSTM in bfloat16")
    training = factory_of(name)(asked(name, precision=precision))
    stepper, batch = TrainingStepper(training, "cpu"), training.batch()
    before = [p.clone() for module in training.modules for p in module.parameters()]
    losses = [stepper.step(batch).item() for _ in range(3)]
    assert all(loss > 0 for loss in losses)
    after = [p for module in training.modules for p in module.parameters()]
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)


@pytest.mark.parametrize("name", ["text_model", "image_classifier"])
def test_one_batch_is_learned(name):
    training = factory_of(name)(asked(name))
    stepper, batch = TrainingStepper(training, "cpu"), training.batch()
    first = stepper.step(batch)
    for _ in range(30):
        last = stepper.step(batch)
    assert last < 0.8 * first
    # Batch norm's own statistics follow the batches, and count in an evaluation
    evaluated = stepper.evaluate(batch)
    assert evaluated is not None
    norms = [m for module in training.modules for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == (name == "image_classifier")
    assert all(norm.num_batches_tracked == 31 for norm in norms)


@EACH
@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_batch_has_the_size_that_was_asked_for(name, batch_size):
    batch = factory_of(name)(asked(name, batch_size=batch_size)).batch()
    for tensor in batch if isinstance(batch, tuple) else (batch,):
        assert tensor.shape[0] == batch_size


@EACH
def test_all_lies_on_the_device_that_was_asked_for(name):
    training = factory_of(name)(asked(name, META))
    tensors = [t for m in training.modules for t in (*m.parameters(), *m.buffers())]
    batch = training.batch()
    assert {t.device for t in (*tensors, *(batch if isinstance(batch, tuple) else (batch,)))} == {META}
    result = training.step(batch) if training.step is not None else training.loss and training.loss(batch)
    assert isinstance(result, torch.Tensor)
    assert result.device == META
