"""Products with master weights, and the gradients that are added inside one."""

from __future__ import annotations

import pytest
import torch

from phase8_tune.kernels.linear import LinearFork, linear


@pytest.mark.parametrize("with_bias", [False, True])
def test_a_fork_has_the_gradients_of_its_parts(with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in ((2, 5, 7), (3, 7), (3,))
    )
    leaves = (x, weight, bias) if with_bias else (x, weight)

    def loss(product: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        return product.square().sum() + own.sin().sum()

    forked = torch.autograd.grad(loss(*LinearFork.apply(*leaves)), leaves)
    apart = torch.autograd.grad(loss(linear(*leaves), x), leaves)
    for one, other in zip(forked, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_gradients_of_master_weights_have_their_type() -> None:
    x = torch.randn(4, 7, dtype=torch.bfloat16, requires_grad=True)
    weight, bias = torch.randn(3, 7, requires_grad=True), torch.randn(3, requires_grad=True)
    product, own = LinearFork.apply(x, weight, bias)
    leaves = (x, weight, bias)
    gradients = torch.autograd.grad(product.float().sum() + own.float().sum(), leaves)
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32, torch.float32]
    assert torch.equal(gradients[2], torch.full((3,), 4.0))
