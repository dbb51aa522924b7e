from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.device_limits import SHARED_MEMORY_BYTES, SMALLEST_SHARED_MEMORY_BYTES
from phase8_tune.kernels.gate import check_operation, poisoned_memory
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.versions import UnsupportedVersionError
from phase8_tune.kernels.window_attention.blocks import banded_tile, loop_tile
from phase8_tune.kernels.window_attention.reference import window_attention as reference

VERSIONS = ("v1", "fast")
SHAPES = (
    GateShape(batch=8, n_seq=1, d_model=24, n_heads=1),
    GateShape(batch=1, n_seq=37, d_model=40, n_heads=2, window=16),
    GateShape(batch=1, n_seq=70, d_model=24, n_heads=1, window=48),
    GateShape(batch=1, n_seq=98, d_model=16, n_heads=1, window=64),
)
WIDE = GateShape(batch=1, n_seq=75, d_model=24, n_heads=1, window=70)


def version_of(name: str) -> Callable[..., Tensor]:
    module = importlib.import_module(f"phase8_tune.kernels.window_attention.{name}")
    function: Callable[..., Tensor] = module.window_attention
    return function


def fused(
    device: torch.device, n: int = 40, heads: int = 2, dim: int = 12, seed: int = 5
) -> tuple[Tensor, ...]:
    """q, k, v as views of one projection with further columns, and curvature, beta and sink."""
    generator = torch.Generator().manual_seed(seed)
    d = heads * dim
    projection = torch.randn(2, n, 3 * d + 7, generator=generator).to(device) * 0.3
    q, k, v = projection[..., : 3 * d].unflatten(-1, (3, heads, dim)).unbind(2)
    curvature, beta, sink = (torch.tensor(x, device=device) for x in (0.7, 0.9, -0.3))
    return q, k, v, curvature, beta, sink


def results(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], window: int) -> list[Tensor]:
    """Output and gradients of every input, for the cotangent cos(0), cos(1), …"""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = function(*leaves, window)
    weight = torch.arange(out.numel(), device=out.device, dtype=torch.float64).cos().to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, weight.view(out.shape))]


def assert_within_budget(version: str, draws: list[tuple[Tensor, ...]], window: int) -> None:
    """Every tensor within twice the reference's error, pooled over draws; the gate's rule for few numbers."""
    truths, own_results, found = [], [], []
    for inputs in draws:
        truths.append(results(reference, tuple(x.double() for x in inputs), window))
        own_results.append(results(reference, inputs, window))
        with poisoned_memory():
            found.append(results(version_of(version), inputs, window))
    for exact, own, got in zip(pooled(truths), pooled(own_results), pooled(found), strict=True):
        factor = 2 + (4 / exact.numel() ** 0.5 if exact.numel() < 64 else 0)
        floor = 4 * torch.finfo(torch.float32).eps * exact.norm()
        assert (got - exact).norm() <= torch.maximum(factor * (own - exact).norm(), floor)


def pooled(draws: list[list[Tensor]]) -> list[Tensor]:
    """One float64 vector a tensor, over all draws."""
    return [torch.cat([x.double().flatten() for x in tensors]) for tensors in zip(*draws, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("version", VERSIONS)
def test_versions_pass_the_gate(version: str, dtype: torch.dtype, device: torch.device) -> None:
    draws = 2 if dtype == torch.float32 else 1  # a float32 draw may need 16 where it is alone, see gate
    result = check_operation("window_attention", version, device, dtype, SHAPES, draws=draws)
    assert result.ok, result.failures


@pytest.mark.parametrize("version", VERSIONS)
def test_windows_that_are_no_multiple_of_a_tile(version: str, device: torch.device) -> None:
    result = check_operation("window_attention", version, device, torch.float32, (WIDE,), draws=3)
    assert result.ok, result.failures


@pytest.mark.parametrize("version", VERSIONS)
def test_window_of_one_sees_itself_and_the_sink(version: str, device: torch.device) -> None:
    assert_within_budget(version, [fused(device, n=18, heads=1)], window=1)


@pytest.mark.parametrize("version", VERSIONS)
def test_equal_queries_and_keys_and_zero_rows(version: str, device: torch.device) -> None:
    draws = []
    for seed in range(6):
        q, _, v, *scalars = fused(device, n=30, heads=1, seed=seed)
        q = q.contiguous()
        q[:, 3] = 0
        draws.append((q, q.clone(), v, *scalars))
    assert_within_budget(version, draws, window=16)


@pytest.mark.parametrize("version", VERSIONS)
def test_radii_beyond_the_clamp_and_near_zero(version: str, device: torch.device) -> None:
    # √c·|q| from 1e-3, where F is a series, to 60, past the clamp at 20
    scale = torch.logspace(-3, 1.8, 30, device=device)[:, None, None]
    draws = [fused(device, n=30, heads=1, seed=seed) for seed in range(6)]
    near = [(q * scale, k * scale, v, *scalars) for q, k, v, *scalars in draws]
    assert_within_budget(version, near, window=16)
    q, k, v, *scalars = draws[0]
    far = results(version_of(version), (q * scale, k * scale.flip(0), v, *scalars), window=16)
    assert all(x.isfinite().all() for x in far)


@pytest.mark.parametrize("version", VERSIONS)
def test_two_runs_are_bitwise_equal(version: str, device: torch.device) -> None:
    inputs = fused(device, n=34)  # more than one block of either version
    first, second = (results(version_of(version), inputs, window=16) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("version", VERSIONS)
def test_later_tokens_do_not_matter(version: str, device: torch.device) -> None:
    q, k, v, *scalars = fused(device)
    changed = [torch.cat([x[:, :23], -3 * x[:, 23:]], dim=1) for x in (q, k, v)]
    before, after = (version_of(version)(*x, *scalars, 16) for x in ((q, k, v), changed))
    assert torch.equal(before[:, :23], after[:, :23])
    assert not torch.equal(before[:, 23:], after[:, 23:])


@pytest.mark.parametrize("version", VERSIONS)
def test_operations_are_well_registered(version: str, device: torch.device) -> None:
    inputs = fused(device, n=3, heads=1)
    version_of(version)  # importing registers
    forward = getattr(torch.ops.phase8, f"window_attention_{version}")
    backward = getattr(torch.ops.phase8, f"window_attention_{version}_backward")
    torch.library.opcheck(forward, (*(x.detach().requires_grad_() for x in inputs), 2))
    outputs = forward(*inputs, 2)
    torch.library.opcheck(backward, (torch.ones_like(outputs[0]), *inputs, *outputs, 2))


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("dim", [16, 24, 64, 96, 128])
@pytest.mark.parametrize("backward", [False, True])
def test_configurations_fit_every_gpu(dim: int, itemsize: int, backward: bool) -> None:
    limit = SMALLEST_SHARED_MEMORY_BYTES
    assert limit == SHARED_MEMORY_BYTES[8, 6]
    assert loop_tile(dim, itemsize, backward=backward).shared_bytes <= limit
    assert banded_tile(dim, itemsize, backward=backward).shared_bytes <= limit


def test_configuration_of_the_common_case() -> None:
    banded = banded_tile(64, 2, backward=True)
    assert (banded.block, banded.warps) == (16, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, s: (q.double(), s, 16), "expected float32, float16 or bfloat16, got torch.float64"),
        (lambda q, s: (q.repeat(1, 1, 1, 11), s, 16), "at most 128 features a head, got 132"),
        (lambda q, s: (q.transpose(1, 3), s, 16), "contiguous last dimension"),
        (lambda q, s: (q, s.double(), 16), "0-dimensional float32"),
        (lambda q, s: (q, s, 0), "a window of at least 1, got 0"),
    ],
)
def test_unsupported_inputs_are_refused(
    change: Callable[[Tensor, Tensor], tuple[Any, ...]], message: str, device: torch.device
) -> None:
    q, *_, sink = fused(device)
    x, scalar, window = change(q, sink)
    for version in VERSIONS:
        with pytest.raises(UnsupportedVersionError, match=message):
            version_of(version)(x, x, x, scalar, scalar, scalar, window)


def test_a_cpu_without_the_interpreter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton.knobs.runtime.interpret", False)
    inputs = fused(torch.device("cpu"), n=3)
    with pytest.raises(UnsupportedVersionError, match="expected tensors on a CUDA GPU, got cpu"):
        version_of("fast")(*inputs, 16)
