from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.layer_norm import tiles
from phase8_tune.kernels.rank_weight import fast
from phase8_tune.kernels.rank_weight.reference import rank_weight
from phase8_tune.kernels.versions import UnsupportedVersionError

SHAPES = (
    GateShape(batch=2, n_seq=1, d_model=24, n_heads=1),
    GateShape(batch=1, n_seq=21, d_model=40, n_heads=1),
)
WEIGHTS = ((32, 1), (32,), (1, 32), (1,), (1, 2), (1,))


def arguments(*shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """h [*shape], g_re, g_im and the weights."""
    generator = torch.Generator().manual_seed(0)
    sizes = (shape, shape[:-1], shape[:-1], *WEIGHTS)
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]


def test_reference_is_the_definition() -> None:
    h, g_re, g_im, w1, b1, w2, b2, q, q0 = arguments(2, 3, 5)
    omega = rank_weight(h, g_re, g_im, w1, b1, w2, b2, q, q0)
    for b in range(2):
        for i in range(3):
            radius = 2 * math.atanh(math.tanh(h[b, i].norm().item() / 5**0.5))
            hidden = [max(w1[k, 0].item() * radius + b1[k].item(), 0.0) for k in range(32)]
            first = sum(w2[0, k].item() * hidden[k] for k in range(32)) + b2.item()
            second = (q[0, 0] * g_re[b, i] + q[0, 1] * g_im[b, i]).item() + q0.item()
            expected = 1 / (1 + math.exp(-first)) / (1 + math.exp(-second))
            assert omega[b, i, 0].item() == pytest.approx(expected, rel=1e-10)


def test_reference_gradients() -> None:
    assert torch.autograd.gradcheck(rank_weight, [x.requires_grad_() for x in arguments(2, 3)])


# Triton's interpreter cuts bfloat16 results off instead of rounding them
DTYPES = [torch.float32, torch.float16] + [torch.bfloat16] * torch.cuda.is_available()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fast_is_within_the_error_budget(dtype: torch.dtype, device: torch.device) -> None:
    result = check_operation("rank_weight", "fast", device, dtype, SHAPES)
    assert result.ok, result.failures


def test_programs_of_the_backward_take_several_tiles(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "_PROGRAMS", 2)
    shape = GateShape(batch=1, n_seq=69, d_model=12, n_heads=1)
    chosen = tiles.row_tiles(shape.n_seq, shape.d_model)
    assert shape.n_seq > 2 * chosen.programs * chosen.rows
    result = check_operation("rank_weight", "fast", device, torch.float32, (shape,), draws=1)
    assert result.ok, result.failures


@pytest.mark.parametrize("scale", [0.0, 20.0])
def test_rows_at_the_ends_of_the_radius(scale: float, device: torch.device) -> None:
    """A row of zeros has the least radius and a long one the most; neither has a gradient."""
    h, *others = arguments(1, 4, 16)
    exact = rank_weight(h * scale, *others)
    leaf = (h * scale).float().to(device).requires_grad_()
    omega = fast.rank_weight(leaf, *(x.float().to(device) for x in others))
    torch.testing.assert_close(omega.detach().cpu().double(), exact, rtol=2e-6, atol=0)
    (gradient,) = torch.autograd.grad(omega.sum(), leaf)
    assert torch.equal(gradient.cpu(), torch.zeros(1, 4, 16))


def test_gradients_are_the_same_in_two_runs(device: torch.device) -> None:
    def gradients() -> tuple[Tensor, ...]:
        leaves = [x.to(device).requires_grad_() for x in arguments(2, 30, 24, dtype=torch.float32)]
        return torch.autograd.grad(fast.rank_weight(*leaves).square().sum(), leaves)

    assert all(torch.equal(one, two) for one, two in zip(gradients(), gradients(), strict=True))


def test_opcheck(device: torch.device) -> None:
    h, g_re, g_im, *weights = (x.to(device) for x in arguments(1, 3, 8, dtype=torch.float32))
    torch.library.opcheck(
        torch.ops.phase8.rank_weight_fast.default,
        (
            *(x.clone().requires_grad_() for x in (h, g_re, g_im)),
            [w.clone().requires_grad_() for w in weights],
        ),
    )
    backward = torch.ops.phase8.rank_weight_fast_backward.default
    torch.library.opcheck(backward, (torch.ones(1, 3, 1, device=device), h, g_re, g_im, weights))


def test_other_types_are_refused(device: torch.device) -> None:
    with pytest.raises(UnsupportedVersionError, match="rank_weight: expected one of"):
        fast.rank_weight(*(x.to(device) for x in arguments(1, 2, 4)))
    given = [x.to(device) for x in arguments(1, 2, 4, dtype=torch.float32)]
    given[3] = given[3].half()
    with pytest.raises(
        UnsupportedVersionError, match=r"expected radius_weight1 in float32, got torch\.float16"
    ):
        fast.rank_weight(*given)
