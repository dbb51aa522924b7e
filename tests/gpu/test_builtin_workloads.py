"""The built-in transformer and models of transformers on a real GPU: losses, precisions, memory."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from phase8_tune.tuner.builtin.hf.training import build as build_hf
from phase8_tune.tuner.builtin.transformer.training import build
from phase8_tune.tuner.values.axes import AxisValue
from phase8_tune.tuner.workloads.stepping import TrainingStepper
from phase8_tune.tuner.workloads.training import Build, Factory

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

DEVICE = torch.device("cuda")
HAS_LIGER = importlib.util.find_spec("liger_kernel") is not None
HAS_HF = importlib.util.find_spec("transformers") is not None and importlib.util.find_spec("peft") is not None
LOSSES = [
    "dense",
    "chunked",
    pytest.param("linear_cross_entropy", marks=pytest.mark.skipif(
        not hasattr(torch.nn, "LinearCrossEntropyOptions"), reason="PyTorch before 2.13 has none")),
    pytest.param("liger", marks=pytest.mark.skipif(not HAS_LIGER, reason="liger-kernel is not installed")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def free_memory() -> Iterator[None]:
    yield
    gc.collect()
    torch.cuda.empty_cache()


def losses(
    model: str, batch_size: int = 4, steps: int = 6, factory: Factory = build, **axes: AxisValue
) -> tuple[list[float], int]:
    """Losses of steps on one batch, and the peak of allocated bytes."""
    training = factory(Build(model=model, batch_size=batch_size, axes={"n_seq": 256, **axes}, device=DEVICE))
    stepper, batch = TrainingStepper(training, "cuda"), training.batch()
    torch.cuda.reset_peak_memory_stats()
    found = [stepper.step(batch).item() for _ in range(steps)]
    return found, torch.cuda.max_memory_allocated()


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_as_the_dense_one_in_less_memory(loss):
    dense, most = losses("small", batch_size=32)
    found, peak = losses("small", batch_size=32, loss=loss)
    # The first step's loss is before any update: what is left is rounding; PyTorch's own sums in 16 bits
    assert found[0] == pytest.approx(dense[0], rel=2e-2 if loss == "linear_cross_entropy" else 2e-3)
    assert found[-1] == pytest.approx(dense[-1], rel=3e-2)
    assert found[-1] < found[0]
    assert loss == "dense" or peak < 0.7 * most


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("precision", ["bf16", "fp16", "none"])
def test_every_precision_learns(family, precision):
    axes: dict[str, Any] = {"family": family, "queries_per_kv": 2, "mixed_precision": precision}
    found, _ = losses("small", steps=10, **axes)
    assert found[-1] < found[0] - 0.3
    exact, _ = losses("small", steps=1, **{**axes, "mixed_precision": "none"})
    assert found[0] == pytest.approx(exact[0], rel=2e-3)


@pytest.mark.parametrize("loss", ["dense", "chunked"])
def test_compiled_learns_as_eager(loss):
    eager, _ = losses("nano", loss=loss)
    compiled, _ = losses("nano", loss=loss, kernel_version="compiled")
    assert compiled == pytest.approx(eager, rel=1e-2)


def test_checkpointing_takes_less_memory_and_computes_the_same():
    plain, most = losses("small", batch_size=32, loss="chunked")
    checkpointed, peak = losses("small", batch_size=32, loss="chunked", gradient_checkpointing=True)
    assert checkpointed == pytest.approx(plain, rel=1e-2)
    assert peak < 0.7 * most


@pytest.mark.skipif(not HAS_HF, reason="needs the extra hf")
@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"mixed_precision": "fp16"},
        {"gradient_checkpointing": True},
        {"lora_rank": 8, "weights": "bfloat16"},
        {"attention": "eager"},
    ],
    ids=str,
)
def test_a_model_of_transformers_learns(axes):
    found, _ = losses("SmolLM2-135M", factory=build_hf, **axes)
    assert found[-1] < found[0]


@pytest.mark.skipif(not HAS_HF, reason="needs the extra hf")
def test_adapters_beside_weights_of_16_bits_take_a_fraction_of_the_memory():
    _, whole = losses("SmolLM2-360M", batch_size=1, factory=build_hf)
    _, adapters = losses("SmolLM2-360M", batch_size=1, factory=build_hf, lora_rank=8, weights="bfloat16")
    assert adapters < 0.4 * whole
