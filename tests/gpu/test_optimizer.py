"""The optimizer with a small state on a real GPU: its budget, captured steps, memory, random numbers."""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.adamw import fast, reference
from phase8_tune.kernels.adamw.gate import FORMS, check_adamw, step_scalars
from phase8_tune.kernels.adamw.tensors import Moments, new_moments
from phase8_tune.phase8.capture import EAGER_CALLS
from phase8_tune.phase8.config import preset
from phase8_tune.phase8.optimizer import MasterWeights, OptimizerState
from phase8_tune.phase8.training import Trainer, TrainingOptions

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.xdist_group("optimizer"),
]

DEVICE = torch.device("cuda")
OPTIONS = tuple(itertools.product(get_args(OptimizerState), get_args(MasterWeights)))
CONFIG = preset("nano", n_seq=256)
COUNTS = (1, 255, 4096, 1_000_003)
"""Also one whose every vector of a thread is whole, which is another form of the kernel."""


@pytest.fixture(autouse=True)
def free_memory() -> Iterator[None]:
    yield
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def new_trainer(state: str, weights: str, *, model: str = "nano", **options: Any) -> Trainer:
    given: dict[str, Any] = {"optimizer_state": state, "master_weights": weights}
    chosen = TrainingOptions(kernel_version="fast", **given, **options)
    return Trainer(preset(model, n_seq=256), chosen, device=DEVICE)


def batch(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randint(CONFIG.vocab_size, (4, CONFIG.n_seq + 1), generator=generator).to(DEVICE)


def test_a_step_keeps_its_budget() -> None:
    result = check_adamw("fast", DEVICE, COUNTS)
    assert result.ok, result.failures


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_gpu_draws_and_codes_what_the_reference_does(form: tuple[torch.dtype, bool]) -> None:
    dtype, is_8bit = form
    made: list[tuple[Tensor, Moments]] = []
    for function in (reference.adamw, fast.adamw):
        torch.manual_seed(0)
        weight = torch.randn(100_003, device=DEVICE).to(dtype)
        moments = new_moments(weight, is_8bit=is_8bit)
        for number in range(1, 4):
            gradient = torch.randn_like(weight)
            function(weight, gradient, moments, step_scalars(number, DEVICE), (0.9, 0.95), 1e-8, 0.1, 5, 6)
        made.append((weight, moments))
    (weight, moments), (other, others) = made
    torch.testing.assert_close(weight.float(), other.float(), rtol=0.01, atol=1e-6)
    if dtype == torch.bfloat16:
        assert (weight != other).double().mean() < 0.01
    if is_8bit:
        for one, another in zip(moments[:2], others[:2], strict=True):
            assert (one != another).double().mean() < 0.01
            assert (one.int() - another.int()).abs().max() <= 1


@pytest.mark.parametrize(("state", "weights"), OPTIONS[1:])
def test_captured_steps_are_the_eager_steps_and_do_not_wait(state: str, weights: str) -> None:
    """A host that waited inside a step could not capture it."""
    runs = []
    for captures in (True, False):
        trainer = new_trainer(state, weights)
        trainer.captures = captures
        losses = [trainer.step(batch(step)) for step in range(EAGER_CALLS + 4)]
        assert any(each._graph is not None for each in trainer._captured.values()) == captures
        runs.append([torch.stack(losses), *(p.detach().clone() for p in trainer.model.parameters())])
        assert all(math.isfinite(float(loss)) for loss in losses)
        assert float(trainer.optimizer.state[trainer.model.blocks[0].in_weight]["step"]) == EAGER_CALLS + 4  # type: ignore[index]
    assert all(map(torch.equal, *runs))


def test_rates_reach_a_captured_step() -> None:
    trainer = new_trainer("8bit", "bf16_sr")
    for step in range(EAGER_CALLS + 2):
        trainer.step(batch(step))
    trainer.set_learning_rate(0.0)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.step(batch(0))
    assert all(map(torch.equal, before, trainer.model.parameters()))


def test_it_goes_on_bitwise_from_its_tensors() -> None:
    first = new_trainer("8bit", "bf16_sr")
    for step in range(EAGER_CALLS + 2):
        first.step(batch(step))
    kept = {name: tensor.clone() for name, tensor in first.tensors().items()}
    expected = torch.stack([first.step(batch(step)) for step in range(10, 14)])
    again = new_trainer("8bit", "bf16_sr")
    for step in range(EAGER_CALLS + 2):
        again.step(batch(20 + step))
    again.load_tensors(kept)
    assert torch.equal(torch.stack([again.step(batch(step)) for step in range(10, 14)]), expected)


def test_fp16_with_loss_scaling_skips_what_overflows() -> None:
    trainer = new_trainer("8bit", "bf16_sr", mixed_precision="fp16")
    losses = torch.stack([trainer.step(batch(0)) for _ in range(10)]).tolist()
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[EAGER_CALLS]
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_weights_state_and_gradients_take_6_bytes_instead_of_16() -> None:
    """Of small, whose product weights are 10.1 of its 10.6 million."""
    held = {}
    for state, weights in (OPTIONS[0], OPTIONS[-1]):
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        trainer = new_trainer(state, weights, model="small")
        trainer.captures = False
        trainer.accumulate(batch(0), 1)
        trainer.update()
        trainer.accumulate(batch(0), 1)  # gradients are there beside the state
        held[state] = torch.cuda.memory_allocated() - before
        count = sum(p.numel() for p in trainer.model.product_weights())
        every = trainer.model.config.parameter_count()
        del trainer
    saved = held["fp32"] - held["8bit"]
    # Other large weights (the cores, the positions) have moments in 8 bits too; scalars take 512 bytes each
    assert 9.9 * count < saved < 10 * every
