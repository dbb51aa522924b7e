from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import ODD_SHAPES, GateShape
from phase8_tune.kernels.layer_norm import fast, reference, tiles
from phase8_tune.kernels.layer_norm.tiles import MAX_WIDTH, row_tiles
from phase8_tune.kernels.rows import as_rows
from phase8_tune.kernels.versions import UnsupportedVersionError

# Several row tiles for each program of the backward, and a last tile that is not full
LONG = GateShape(batch=1, n_seq=69, d_model=12, n_heads=1)
WIDE = GateShape(batch=1, n_seq=5, d_model=1280, n_heads=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("operation", ["layer_norm", "norm_potential"])
def test_fast_is_within_the_error_budget(operation: str, dtype: torch.dtype, device: torch.device) -> None:
    result = check_operation(operation, "fast", device, dtype, (*ODD_SHAPES, WIDE))
    assert result.ok, result


@pytest.mark.parametrize("operation", ["layer_norm", "norm_potential"])
def test_programs_of_the_backward_take_several_tiles(
    operation: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "_PROGRAMS", 4)
    chosen = row_tiles(LONG.batch * LONG.n_seq, LONG.d_model)
    assert LONG.batch * LONG.n_seq > 2 * chosen.programs * chosen.rows
    assert LONG.n_seq % chosen.rows
    result = check_operation(operation, "fast", device, torch.float32, (LONG,), draws=1)
    assert result.ok, result


def operands(device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 24, device=device, dtype=dtype, requires_grad=True)
    vectors = [torch.randn(24, device=device, requires_grad=True) for _ in range(3)]
    return x, *vectors, torch.randn((), device=device, requires_grad=True)


def test_opcheck(device: torch.device) -> None:
    x, weight, bias, potential_weight, potential_bias = operands(device)
    torch.library.opcheck(fast._layer_norm, (x, weight, bias))
    torch.library.opcheck(fast._norm_potential, (x, weight, bias, potential_weight, potential_bias))
    y, potential, mean, rstd = (t.detach() for t in fast._norm_potential(*operands(device)))
    frozen = [t.detach() for t in (x, weight, bias, potential_weight)]
    torch.library.opcheck(
        fast._backward,
        (torch.ones_like(y), torch.ones_like(potential), torch.ones_like(y), *frozen, potential, mean, rstd),
    )


@pytest.mark.parametrize("used", [0, 1, 2])
def test_unused_outputs_leave_the_gradient_of_one_right(used: int, device: torch.device) -> None:
    leaves = operands(device)
    expected = torch.autograd.grad(
        reference.norm_potential(*leaves)[used].sum(), leaves, materialize_grads=True
    )
    got = torch.autograd.grad(fast.norm_potential(*leaves)[used].sum(), leaves, materialize_grads=True)
    torch.testing.assert_close(got, expected)


def test_gradient_of_the_residual_is_added(device: torch.device) -> None:
    def total(results: tuple[Tensor, ...]) -> Tensor:
        return sum((t * t).sum() for t in results)  # type: ignore[return-value]

    leaves = operands(device)
    expected = torch.autograd.grad(total(reference.norm_potential(*leaves)), leaves)
    torch.testing.assert_close(torch.autograd.grad(total(fast.norm_potential(*leaves)), leaves), expected)


def test_views_are_read_in_place(device: torch.device) -> None:
    fused = torch.randn(2, 5, 60, device=device)
    view = fused[..., 7:31]
    weight, bias = torch.randn(24, device=device), torch.randn(24, device=device)
    assert as_rows(view).data_ptr() == view.data_ptr()
    torch.testing.assert_close(fast.layer_norm(view, weight, bias), reference.layer_norm(view, weight, bias))
    transposed = torch.randn(24, 5, device=device).T
    torch.testing.assert_close(
        fast.layer_norm(transposed, weight, bias), reference.layer_norm(transposed, weight, bias)
    )


def test_two_runs_are_bitwise_equal(device: torch.device) -> None:
    leaves = operands(device)
    runs = [torch.autograd.grad(fast.norm_potential(*leaves)[1].sum(), leaves) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_potential_is_bounded_and_its_gradient_finite_at_the_bound(device: torch.device) -> None:
    x, weight, bias, potential_weight, _ = operands(device)
    far = torch.tensor(1e4, device=device, requires_grad=True)
    _, potential, _ = fast.norm_potential(x, weight, bias, potential_weight, far)
    assert (potential == reference.V_MAX).all()
    (grad,) = torch.autograd.grad(potential.sum(), x)
    assert (grad == 0).all()


def test_what_the_kernel_does_not_take_is_refused(device: torch.device) -> None:
    one = torch.ones(8, device=device)
    with pytest.raises(UnsupportedVersionError, match=r"expected one of float32, .*got float64"):
        fast.layer_norm(torch.ones(2, 8, device=device, dtype=torch.float64), one, one)
    with pytest.raises(UnsupportedVersionError, match=f"at most {MAX_WIDTH}, got {MAX_WIDTH + 1}"):
        fast.layer_norm(torch.ones(1, MAX_WIDTH + 1, device=device), one, one)
