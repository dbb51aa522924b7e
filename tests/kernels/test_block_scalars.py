from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.block_scalars import fast
from phase8_tune.kernels.block_scalars.reference import block_scalars
from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.versions import UnsupportedVersionError

SHAPE = GateShape(batch=1, n_seq=1, d_model=8, n_heads=1)


def test_fast_is_within_the_error_budget(device: torch.device) -> None:
    result = check_operation("block_scalars", "fast", device, torch.float32, (SHAPE,), draws=16)
    assert result.ok, result.failures


@pytest.mark.parametrize("x", [-80.0, -12.0, -4.7, 0.0, 1.5, 9.9, 20.5, 200.0])
def test_far_from_zero_and_where_the_curvature_is_clamped(x: float, device: torch.device) -> None:
    leaves = [torch.tensor(x, device=device, requires_grad=True) for _ in range(3)]
    exact = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    scalars, expected = fast.block_scalars(*leaves), block_scalars(*exact)
    for got, wanted in zip(scalars, expected, strict=True):
        torch.testing.assert_close(got.detach().cpu().double(), wanted.detach(), rtol=1e-6, atol=0)
    gradients = torch.autograd.grad(sum(scalars, torch.zeros((), device=device)), leaves)
    wanted_gradients = torch.autograd.grad(sum(expected, torch.zeros(())), exact)
    for got, wanted in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(got.cpu().double(), wanted, rtol=1e-6, atol=0)


def test_nan_stays_nan(device: torch.device) -> None:
    assert all(
        scalar.isnan() for scalar in fast.block_scalars(*(torch.tensor(torch.nan, device=device),) * 3)
    )


def test_opcheck(device: torch.device) -> None:
    inputs = tuple(torch.tensor(x, device=device) for x in (0.5, -0.5, 1.0))
    leaves = tuple(x.clone().requires_grad_() for x in inputs)
    torch.library.opcheck(torch.ops.phase8.block_scalars_fast.default, leaves)
    gradients: tuple[Tensor, ...] = tuple(torch.ones((), device=device) for _ in range(3))
    torch.library.opcheck(torch.ops.phase8.block_scalars_fast_backward.default, (*gradients, *inputs))


def test_other_types_are_refused(device: torch.device) -> None:
    wide = (torch.tensor(0.5, dtype=torch.float64, device=device),) * 3
    with pytest.raises(UnsupportedVersionError, match=r"expected epsilon in float32, got torch\.float64"):
        fast.block_scalars(*wide)
