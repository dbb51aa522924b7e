"""The embedding in every version: the error budget, opcheck, repeated tokens, determinism."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.gate import check_operation, poisoned_memory
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.htt_embedding import reference
from phase8_tune.kernels.versions import UnsupportedVersionError

Compiled = Callable[[str], list[dict[str, Any]]]
DTYPES = [torch.float32, torch.float16]
if torch.cuda.is_available():  # the interpreter has no bfloat16
    DTYPES.append(torch.bfloat16)
VERSIONS = ["v2"]
SHAPES = (
    GateShape(batch=2, n_seq=1, d_model=24, n_heads=1, vocab_size=23, htt_rank=3),
    GateShape(batch=2, n_seq=19, d_model=40, n_heads=2, vocab_size=57, htt_rank=8),
)


def module(version: str) -> Any:
    return importlib.import_module(f"phase8_tune.kernels.htt_embedding.{version}")


def arguments(
    device: torch.device, tokens: Tensor, *, dims: tuple[int, int] = (5, 5), d_model: int = 24
) -> tuple[Any, ...]:
    """A vocabulary of 25 in 5 × 5, rank 3, two positions more than needed."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device).requires_grad_()

    cores = (draw(5, 3, dims[0]), draw(5, 3, dims[1]), draw(3))
    return tokens.to(device), *cores, draw(tokens.shape[1] + 2, d_model), torch.float32


def output_and_gradients(function: Any, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    out = function(*inputs)
    weight = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
    return out.detach(), *torch.autograd.grad((out * weight).sum(), inputs[1:5])


def random_tokens(batch: int, n_seq: int) -> Tensor:
    return torch.randint(25, (batch, n_seq), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("version", VERSIONS)
def test_error_budget(version: str, dtype: torch.dtype, device: torch.device) -> None:
    result = check_operation("htt_embedding", version, device, dtype, SHAPES, draws=2)
    assert result.ok, result.failures


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param(torch.full((2, 35), 7), id="one token"),
        pytest.param(torch.tensor([[0, 24, 0, 24, 12]]), id="first and last row"),
        pytest.param(torch.arange(70).view(2, 35) % 10, id="two rows of core1, more than a part each"),
        pytest.param(random_tokens(4, 70)[:, ::2], id="strided"),
    ],
)
def test_any_distribution_of_tokens(version: str, tokens: Tensor, device: torch.device) -> None:
    inputs = arguments(device, tokens)
    expected = output_and_gradients(reference.htt_embedding, inputs)
    with poisoned_memory():
        got = output_and_gradients(module(version).htt_embedding, inputs)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("dims", "d_model"), [((1, 24), 24), ((12, 2), 22), ((7, 4), 28), ((67, 1), 66)])
def test_any_folding_of_d(version: str, dims: tuple[int, int], d_model: int, device: torch.device) -> None:
    inputs = arguments(device, random_tokens(2, 5), dims=dims, d_model=d_model)
    expected = output_and_gradients(reference.htt_embedding, inputs)
    got = output_and_gradients(module(version).htt_embedding, inputs)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
def test_two_runs_are_bitwise_equal(version: str, device: torch.device) -> None:
    inputs = arguments(device, random_tokens(2, 40) % 6)
    function = module(version).htt_embedding
    for a, b in zip(
        output_and_gradients(function, inputs), output_and_gradients(function, inputs), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_token_outside_the_vocabulary_gives_nan(version: str, device: torch.device) -> None:
    tokens = torch.tensor([[3, 25, 4]])
    out = module(version).htt_embedding(*arguments(device, tokens))
    assert out.isnan().all(-1).tolist() == [[False, True, False]]


@pytest.mark.parametrize("version", VERSIONS)
def test_opcheck(version: str, device: torch.device) -> None:
    inputs = arguments(device, random_tokens(2, 5))
    module(version)
    ops = torch.ops.phase8
    torch.library.opcheck(getattr(ops, f"htt_embedding_{version}").default, inputs)
    tokens, *weights = (x.detach() for x in inputs[:5])
    backward = (torch.ones(2, 5, 24, device=device), tokens, *weights[:3], weights[3].shape[0])
    torch.library.opcheck(getattr(ops, f"htt_embedding_{version}_backward").default, backward)


@pytest.mark.parametrize("version", VERSIONS)
def test_other_weights_are_refused(version: str, device: torch.device) -> None:
    inputs = [
        x.detach().double() if i in (1, 2, 3, 4) else x
        for i, x in enumerate(arguments(device, random_tokens(1, 2)))
    ]
    with pytest.raises(UnsupportedVersionError, match="reference"):
        module(version).htt_embedding(*inputs)


def test_scratch_grows_with_the_parts() -> None:
    sizes = ((225, 16, 23), (224, 16, 23))
    assert module("v2").scratch_bytes(1024, *sizes) < module("v2").scratch_bytes(16384, *sizes)
    assert module("v2").scratch_bytes(16384, *sizes) < 3 * 2**20


def test_core_gradients_stay_in_registers_and_shared_memory(compiled: Compiled) -> None:
    """Local memory is taken for every thread that a GPU can run: 8 KB each are 2 GB on an H200."""
    lines = compiled("compile_embedding.py")
    assert [len(line["stack_bytes"]) for line in lines] == [4] * 2
    for line in lines:
        assert max(line["stack_bytes"].values()) == 0, line
