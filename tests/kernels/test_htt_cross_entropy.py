"""The head's loss in every version: the error budget, opcheck, chunks, odd shapes and scratch."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.device_limits import SHARED_MEMORY_BYTES, SMALLEST_SHARED_MEMORY_BYTES
from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.htt_cross_entropy import exponentials, fast, plan, reference, v2
from phase8_tune.kernels.versions import UnsupportedVersionError

DTYPES = [torch.float32, torch.float16]
if torch.cuda.is_available():  # the interpreter has no bfloat16
    DTYPES.append(torch.bfloat16)
VERSIONS = ["v1", "v2", "fast"]
SHAPES = (
    GateShape(batch=1, n_seq=1, d_model=24, n_heads=1, vocab_size=23, htt_rank=3),
    GateShape(batch=1, n_seq=9, d_model=40, n_heads=2, vocab_size=57, htt_rank=8),
)
"""One token; v1·v2 beyond the vocabulary, d1·d2 beyond d, nothing a power of two but the rank."""


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 4 tokens: the last chunk of 9 has one."""
    monkeypatch.setattr(plan, "TILE", 4)
    monkeypatch.setattr(plan, "CHUNK_BYTES_PER_TOKEN", 1)
    monkeypatch.setattr(plan, "CHUNK_BYTES", 1)
    monkeypatch.setattr(v2, "FACTORED_CHUNK_BYTES", 1)
    monkeypatch.setattr(plan, "COLUMN_MULTIPLE", 64)


def module(version: str) -> Any:
    return importlib.import_module(f"phase8_tune.kernels.htt_cross_entropy.{version}")


def arguments(
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    *,
    dims: tuple[int, int] = (5, 5),
    d_model: int = 24,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int]:
    """9 tokens over a vocabulary of 23 in 5 × 5, rank 3; leaves that require gradients."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, std: float = 0.5) -> Tensor:
        return torch.randn(shape, generator=generator).mul_(std).to(device).requires_grad_()

    h = draw(9, d_model, std=1.0).detach().to(dtype).requires_grad_()
    targets = torch.randint(23, (9,), generator=generator).to(device)
    return h, draw(5, 3, dims[0]), draw(5, 3, dims[1]), draw(3), targets, 23


def loss_and_gradients(function: Any, *inputs: Any, factor: float = 1.0) -> tuple[Tensor, ...]:
    loss = function(*inputs)
    return loss.detach(), *torch.autograd.grad(loss * factor, inputs[:4])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("small_chunks")
def test_error_budget_over_chunks(version: str, dtype: torch.dtype, device: torch.device) -> None:
    result = check_operation("htt_cross_entropy", version, device, dtype, SHAPES, draws=2)
    assert result.ok, result.failures


@pytest.mark.parametrize("version", VERSIONS)
def test_error_budget_in_one_chunk(version: str, device: torch.device) -> None:
    result = check_operation("htt_cross_entropy", version, device, torch.float32, SHAPES[1:], draws=1)
    assert result.ok, result.failures


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("dims", "d_model"), [((1, 24), 24), ((12, 2), 22), ((7, 4), 28)])
@pytest.mark.usefixtures("small_chunks")
def test_any_folding_of_d(version: str, dims: tuple[int, int], d_model: int, device: torch.device) -> None:
    inputs = arguments(device, dims=dims, d_model=d_model)
    expected = loss_and_gradients(reference.htt_cross_entropy, *inputs)
    got = loss_and_gradients(module(version).htt_cross_entropy, *inputs)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("small_chunks")
def test_hidden_states_may_be_a_view(version: str, device: torch.device) -> None:
    h, *rest = arguments(device)
    wide = torch.cat((h, h), dim=1).detach()
    view = wide[:, : h.shape[1]].requires_grad_()
    function = module(version).htt_cross_entropy
    assert not view.is_contiguous()
    got = loss_and_gradients(function, view, *rest)
    for a, b in zip(got, loss_and_gradients(function, h, *rest), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("small_chunks")
def test_loss_alone_is_the_same(version: str, device: torch.device) -> None:
    inputs = arguments(device)
    function = module(version).htt_cross_entropy
    with torch.no_grad():
        alone = function(*inputs)
    assert not alone.requires_grad
    torch.testing.assert_close(alone, function(*inputs).detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("small_chunks")
def test_float16_gradients_survive_loss_scaling(version: str, device: torch.device) -> None:
    """Finite and accurate where the upstream gradient is GradScaler's first, 65536, no float16."""
    h, core1, core2, phase, *rest = arguments(device, torch.float16)
    wide = tuple(x.detach().double().requires_grad_() for x in (h, core1, core2, phase))
    exact = loss_and_gradients(reference.htt_cross_entropy, *wide, *rest, factor=65536.0)
    got = loss_and_gradients(module(version).htt_cross_entropy, h, core1, core2, phase, *rest, factor=65536.0)
    for a, b in zip(got, exact, strict=True):
        assert torch.dist(a.double(), b) <= 2 * torch.finfo(torch.float16).eps * b.norm()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("small_chunks")
def test_a_target_outside_the_vocabulary_makes_the_loss_nan(version: str, device: torch.device) -> None:
    *inputs, targets, vocab_size = arguments(device)
    targets[3] = vocab_size
    function = module(version).htt_cross_entropy
    assert math.isnan(function(*inputs, targets, vocab_size).detach())
    with torch.no_grad():
        assert math.isnan(function(*inputs, targets, vocab_size).detach())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("small_chunks")
def test_two_runs_are_bitwise_equal(version: str, device: torch.device) -> None:
    inputs = arguments(device)
    function = module(version).htt_cross_entropy
    for a, b in zip(
        loss_and_gradients(function, *inputs), loss_and_gradients(function, *inputs), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("small_chunks")
def test_opcheck(version: str, device: torch.device) -> None:
    inputs = arguments(device)
    ops = torch.ops.phase8
    torch.library.opcheck(getattr(ops, f"htt_cross_entropy_{version}").default, inputs)
    detached = tuple(x.detach() if isinstance(x, Tensor) else x for x in inputs)
    torch.library.opcheck(getattr(ops, f"htt_cross_entropy_{version}_loss").default, detached)


@pytest.fixture
def float32_as_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast version trains float32 as it trains bfloat16, which the interpreter does not have."""
    monkeypatch.setattr(fast, "EXPONENTIAL_DTYPES", frozenset({torch.float32, torch.bfloat16}))


@pytest.mark.usefixtures("small_chunks", "float32_as_bfloat16")
def test_error_budget_through_exponentials(device: torch.device) -> None:
    result = check_operation("htt_cross_entropy", "fast", device, torch.float32, SHAPES, draws=2)
    assert result.ok, result.failures


@pytest.mark.parametrize("d_model", [64, 40])
@pytest.mark.usefixtures("small_chunks", "float32_as_bfloat16")
def test_persistent_programs_compute_the_same(
    d_model: int, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    """Through descriptors, on widths that are no multiple of a block too, in training and in evaluation."""
    inputs = arguments(device, d_model=d_model, dims=(8, 8))
    wanted = loss_and_gradients(fast.htt_cross_entropy, *inputs)
    tile = fast.ProductTile(tokens=64, columns=64, depth=32, num_warps=4, num_stages=2, persistent=True)
    monkeypatch.setattr(fast, "product_tile", lambda *_, **__: tile)
    launched: list[int] = []
    kernel = exponentials.persistent_exponentials_kernel

    class Counting:
        def __getitem__(self, grid: tuple[int]) -> Callable[..., Any]:
            launched.append(grid[0])
            return kernel[grid]  # type: ignore[no-any-return]

    monkeypatch.setattr(fast, "persistent_exponentials_kernel", Counting())
    for got, expected in zip(loss_and_gradients(fast.htt_cross_entropy, *inputs), wanted, strict=True):
        assert torch.equal(got, expected)
    with torch.no_grad():
        assert torch.allclose(fast.htt_cross_entropy(*inputs), wanted[0], rtol=1e-6)
    assert len(launched) >= 2


@pytest.mark.parametrize("factor", [1.0, 30.0, 300.0])
@pytest.mark.usefixtures("small_chunks", "float32_as_bfloat16")
def test_exponentials_of_large_logits(factor: float, device: torch.device) -> None:
    """Losses of hundreds, where exp(l − l_target) leaves float32's range, and of nearly 0 in other tokens."""
    h, core1, core2, phase, *rest = arguments(device)
    with torch.no_grad():
        h *= factor
    wide = tuple(x.detach().double().requires_grad_() for x in (h, core1, core2, phase))
    exact = loss_and_gradients(reference.htt_cross_entropy, *wide, *rest)
    assert exact[0].item() > 109 or factor < 300
    got = loss_and_gradients(fast.htt_cross_entropy, h, core1, core2, phase, *rest)
    for a, b in zip(got, exact, strict=True):
        assert torch.dist(a.double(), b) <= 1e-5 * b.norm()


@pytest.mark.usefixtures("small_chunks", "float32_as_bfloat16")
def test_scratch_of_exponentials(monkeypatch: pytest.MonkeyPatch) -> None:
    test_scratch_is_what_is_allocated("fast", True, monkeypatch)


@pytest.mark.parametrize("limit_bytes", sorted({*SHARED_MEMORY_BYTES.values(), SMALLEST_SHARED_MEMORY_BYTES}))
@pytest.mark.parametrize("dtype", plan.COMPUTE_DTYPES)
def test_product_tiles_fit_every_device(limit_bytes: int, dtype: torch.dtype) -> None:
    tile = fast.product_tile(dtype, limit_bytes)
    assert tile.shared_bytes(dtype) < limit_bytes
    assert tile.columns % fast.product_tile(dtype, 0).columns == 0


def test_opcheck_of_the_backward(device: torch.device) -> None:
    module("v1")
    upstream = torch.tensor(3.0, device=device)
    gradients = tuple(x.detach() for x in arguments(device)[:4])
    torch.library.opcheck(torch.ops.phase8.htt_cross_entropy_backward.default, (upstream, *gradients))


def test_v2_names_the_versions_that_take_large_factors(device: torch.device) -> None:
    with pytest.raises(UnsupportedVersionError, match="v1 and fast"):
        v2.htt_cross_entropy(*arguments(device, dims=(130, 1), d_model=128))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.usefixtures("small_chunks")
def test_scratch_is_what_is_allocated(version: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The declared bytes are those the ops allocate: they allocate from the declaration."""
    inputs = arguments(torch.device("cpu"))
    shape = plan.head_shape(*inputs)
    seen: list[int] = []

    def allocate(buffer: plan.Buffer, device: torch.device) -> Tensor:
        seen.append(buffer.n_bytes)
        return torch.empty(buffer.size, dtype=buffer.dtype, device=device)

    monkeypatch.setattr(plan.Buffer, "allocate", allocate)
    with torch.set_grad_enabled(training):
        module(version).htt_cross_entropy(*inputs)
    assert sum(seen) == module(version).scratch_bytes(shape, torch.float32, training=training) > 0


@pytest.mark.parametrize(("d_model", "rank"), [(512, 16), (1024, 32), (1536, 48)])
def test_chunk_stays_within_its_limit(d_model: int, rank: int) -> None:
    for tokens in (1, 2048, 8192, 16384, 65536):
        shape = plan.HeadShape(
            tokens=tokens, d_model=d_model, vocab_size=50257, v1=225, v2=224, rank=rank, d1=d_model, d2=1
        )
        size = plan.logits_chunk_tokens(shape, torch.bfloat16)
        assert size == min(tokens, plan.TILE) or size * shape.columns * 2 <= plan.CHUNK_BYTES
        assert shape.columns % (plan.MAX_SPLITS * 8) == 0
