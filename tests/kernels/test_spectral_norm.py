from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.spectral_norm import fast, reference
from phase8_tune.kernels.versions import UnsupportedVersionError


@pytest.fixture(params=["reference", "fast"])
def spectral_norm(request: pytest.FixtureRequest) -> Callable[[Tensor], Tensor]:
    function: Callable[[Tensor], Tensor] = {"reference": reference, "fast": fast}[request.param].spectral_norm
    return function


@pytest.mark.parametrize("seed", range(5))
def test_reference_and_its_gradient_against_the_singular_values(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(12, 12, generator=generator, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(
        reference.spectral_norm(matrix), torch.linalg.matrix_norm(matrix, ord=2), rtol=1e-9, atol=0
    )
    ours, exact = (
        torch.autograd.grad(f(matrix), matrix)[0]
        for f in (reference.spectral_norm, lambda m: torch.linalg.matrix_norm(m, ord=2))
    )
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rank", [1, 16, 20, 33])
def test_fast_is_within_the_error_budget(rank: int, device: torch.device) -> None:
    shape = GateShape(batch=1, n_seq=1, d_model=8, n_heads=1, rank=rank)
    result = check_operation("spectral_norm", "fast", device, torch.float32, (shape,))
    assert result.ok, result.failures


def test_a_matrix_of_zeros_has_a_norm_of_zero_and_a_finite_gradient(
    spectral_norm: Callable[[Tensor], Tensor], device: torch.device
) -> None:
    matrix = torch.zeros(4, 4, requires_grad=True, device=device)
    norm = spectral_norm(matrix)
    (gradient,) = torch.autograd.grad(norm, matrix)
    assert norm == 0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_small_and_large_matrices(scale: float, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(20, 20, generator=generator)
    got = fast.spectral_norm((matrix * scale).to(device)).cpu()
    torch.testing.assert_close(got, torch.linalg.matrix_norm(matrix, ord=2) * scale, rtol=1e-5, atol=0)


def test_opcheck(device: torch.device) -> None:
    matrix = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).to(device)
    torch.library.opcheck(torch.ops.phase8.spectral_norm_fast.default, (matrix.requires_grad_(),))


def test_what_is_not_computed_is_refused(device: torch.device) -> None:
    with pytest.raises(UnsupportedVersionError, match=r"expected matrix in float32, got torch\.float64"):
        fast.spectral_norm(torch.zeros(3, 3, dtype=torch.float64, device=device))
    with pytest.raises(UnsupportedVersionError, match="expected a matrix of at most 64 rows, got 65"):
        fast.spectral_norm(torch.zeros(65, 65, device=device))
