"""The optimizer with a small state: what it takes, that it learns, stops and goes on as with float32."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from phase8_tune.phase8.config import Phase8Config
from phase8_tune.phase8.optimizer import SMALLEST_8BIT, CompactAdamW, MasterWeights, OptimizerState
from phase8_tune.phase8.training import Trainer, TrainingOptions
from phase8_tune.tuner.builtin.phase8.tracing import trace_training
from phase8_tune.tuner.predict.trace.limits import Limits

# Of 89,000 numbers 61,000 are in product weights; a block's two and the head side's three
CONFIG = Phase8Config(d_model=64, n_layers=2, n_heads=2, n_seq=32, htt_rank=4, vocab_size=300)
CPU = torch.device("cpu")
OPTIONS = tuple(itertools.product(get_args(OptimizerState), get_args(MasterWeights)))
SMALL_STATE = OPTIONS[1:]
BETAS = (0.9, 0.95)


def trainer(state: str, weights: str, *, precision: str = "none", **options: Any) -> Trainer:
    given: dict[str, Any] = {
        "optimizer_state": state,
        "master_weights": weights,
        "mixed_precision": precision,
    }
    return Trainer(CONFIG, TrainingOptions(**given, **options), device=CPU)


def batch(seed: int = 0) -> Tensor:
    return torch.randint(0, 300, (4, 33), generator=torch.Generator().manual_seed(seed))


def losses(of: Trainer, steps: range) -> list[float]:
    return [float(of.step(batch(step % 4))) for step in steps]


def compact(groups: list[dict[str, Any]], version: str = "reference", **options: Any) -> CompactAdamW:
    given: dict[str, Any] = {
        "lr": 1e-2,
        "betas": BETAS,
        "max_gradient_norm": 1.0,
        "is_8bit": False,
        "seed": 0,
    }
    return CompactAdamW(groups, kernel_version=version, **given | options)


def two_weights(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(80, 64).to(dtype)), nn.Parameter(torch.randn(70))]


def with_gradients(weights: list[nn.Parameter], seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    for weight in weights:
        weight.grad = (3 * torch.randn(weight.shape, generator=generator)).to(weight.dtype)
    return weights


def test_the_default_is_pytorchs_own() -> None:
    default = Trainer(CONFIG, TrainingOptions(), device=CPU)
    assert type(default.optimizer) is torch.optim.AdamW
    assert {p.dtype for p in default.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("version", ["reference", "fast"])
def test_clipping_and_steps_are_those_of_pytorch(version: str) -> None:
    """In float32, of a weight in 8 bits too on the first step, whose moments are not read from codes yet."""
    for is_8bit, steps in ((False, 3), (True, 1)):
        ours, theirs = two_weights(), two_weights()
        groups: list[list[dict[str, Any]]] = [
            [{"params": [matrix], "weight_decay": 0.1}, {"params": [vector]}]
            for matrix, vector in (ours, theirs)
        ]
        own = compact(groups[0], version, is_8bit=is_8bit)
        other = torch.optim.AdamW(groups[1], lr=1e-2, betas=BETAS, weight_decay=0.0)
        for step in range(steps):
            with_gradients(ours, step)
            torch.nn.utils.clip_grad_norm_(with_gradients(theirs, step), 1.0)
            gradients = [weight.grad for weight in ours if weight.grad is not None]
            before = [gradient.clone() for gradient in gradients]
            own.step()
            other.step()
            assert all(map(torch.equal, before, gradients))  # only read
        assert ("exp_avg_peaks" in own.state[ours[0]]) == is_8bit
        for weight, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-6)


def test_a_rate_per_group_and_a_rate_on_the_device() -> None:
    weights = with_gradients(two_weights(), 0)
    rates = (torch.tensor(0.0), 1e-2)
    own = compact([{"params": [w], "lr": rate} for w, rate in zip(weights, rates, strict=True)], is_8bit=True)
    before = [weight.detach().clone() for weight in weights]
    own.step()
    assert torch.equal(weights[0], before[0])
    assert not torch.equal(weights[1], before[1])


def test_what_overflowed_changes_neither_weights_nor_state() -> None:
    weights = with_gradients(two_weights(torch.bfloat16), 0)
    own = compact([{"params": weights}], is_8bit=True)
    own.step()
    held = [*weights, *(tensor for state in own.state.values() for tensor in state.values())]
    before = [tensor.detach().clone() for tensor in held]
    with_gradients(weights, 1)
    for weight in weights:
        assert weight.grad is not None
        weight.grad[0] = float("inf")
    own.found_inf = torch.ones(())  # type: ignore[attr-defined]  # as torch.amp.GradScaler does
    own.step()
    assert all(map(torch.equal, held, before))
    assert [float(state["step"]) for state in own.state.values()] == [1.0, 1.0]


@pytest.mark.parametrize(("state", "weights"), OPTIONS)
def test_bytes_a_number(state: str, weights: str) -> None:
    """16 with gradients in float32; 6 where both are small, and the peaks."""
    made = trainer(state, weights)
    losses(made, range(1))
    held = {id(p) for p in made.model.product_weights()}
    assert held == {id(p) for p in made.model.parameters() if p.dtype == torch.bfloat16} or weights == "fp32"
    expected = {"fp32": 4 + 4, "bf16_sr": 2 + 2}[weights] + {"fp32": 8, "8bit": 2 + 8 / 256}[state]
    loss = made.model(batch()[:, :-1], batch()[:, 1:])
    loss.backward()
    for p in made.model.product_weights():
        assert p.numel() % 256 == 0 or p.numel() < SMALLEST_8BIT
        if p.numel() >= SMALLEST_8BIT:
            assert p.grad is not None
            state_bytes = sum(t.nbytes for name, t in made.optimizer.state[p].items() if name != "step")
            assert (p.nbytes + p.grad.nbytes + state_bytes) / p.numel() == expected


def test_product_weights_are_most_of_a_model() -> None:
    made = trainer("8bit", "bf16_sr")
    names = {name for name, p in made.model.named_parameters() if p.dtype == torch.bfloat16}
    blocks = {f"blocks.{n}.{name}" for n in range(2) for name in ("in_weight", "out_weight")}
    head = {"integration.abc_weight", "fusion.in_weight", "fusion.out_weight"}
    assert names == blocks | head
    counts = [p.numel() for p in made.model.product_weights()]
    assert sum(counts) > 0.6 * CONFIG.parameter_count()


def test_it_learns_as_with_float32() -> None:
    """A batch by heart: 5.78 to 4.0 nats in 12 steps."""

    def curve(state: str, weights: str) -> list[float]:
        learning = trainer(state, weights, learning_rate=5e-3)
        return [float(learning.step(batch())) for _ in range(12)]

    exact = curve("fp32", "fp32")
    assert exact[-1] < 0.75 * exact[0]
    for options in SMALL_STATE:
        found = curve(*options)
        assert found != exact
        assert found == pytest.approx(exact, rel=0.005)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_compute_in_16_bits_takes_weights_in_bfloat16(precision: str) -> None:
    found = losses(trainer("8bit", "bf16_sr", precision=precision), range(6))
    assert found == pytest.approx(losses(trainer("fp32", "fp32"), range(6)), rel=0.005)


def test_parts_of_a_step_are_the_step() -> None:
    whole, parts = trainer("8bit", "fp32"), trainer("8bit", "fp32")
    for step in range(3):
        whole.step(batch(step))
        for part in batch(step).chunk(2):
            parts.accumulate(part, 2)
        parts.update()
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("state", "weights"), SMALL_STATE)
def test_it_goes_on_bitwise_from_its_tensors(state: str, weights: str) -> None:
    first = trainer(state, weights)
    losses(first, range(3))
    kept = {name: tensor.clone() for name, tensor in first.tensors().items()}
    assert len({tensor.data_ptr() for tensor in first.tensors().values()}) == len(kept)
    expected = losses(first, range(3, 6))
    again = trainer(state, weights, learning_rate=0.5)
    losses(again, range(7, 8))  # whatever it is, so that there is state to write to
    again.load_tensors(kept)
    again.set_learning_rate(first.options.learning_rate)
    assert losses(again, range(3, 6)) == expected


def test_a_step_can_be_traced_without_a_gpu() -> None:
    """Nothing in it waits for a number of the device, and its kernel is one that a prediction knows."""
    options = TrainingOptions(kernel_version="fast", optimizer_state="8bit", master_weights="bf16_sr")
    limits = Limits(shared_memory_bytes=101_376, multiprocessors=48, threads_per_multiprocessor=1536)
    trace = trace_training(CONFIG, options, batch_size=2, limits=limits)
    assert "adamw_fast:adamw.tiles.update_kernel" in {name for name, _ in trace.costs}


def test_state_of_another_type_is_refused_before_anything_changes() -> None:
    """Codes are no moments: copied into float32 they would be numbers up to 255."""
    written, reading = trainer("8bit", "fp32"), trainer("fp32", "fp32")
    for each in (written, reading):
        losses(each, range(1))
    before = {name: tensor.clone() for name, tensor in reading.tensors().items()}
    with pytest.raises(ValueError, match=r"^optimizer\.exp_avg\..*: expected torch.float32, got torch.uint8"):
        reading.load_tensors(written.tensors())
    assert all(torch.equal(tensor, before[name]) for name, tensor in reading.tensors().items())
