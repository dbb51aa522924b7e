"""The four losses of the built-in transformer are one loss."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import torch.nn.functional as F

from phase8_tune.tuner.builtin.transformer.losses import (
    chunked_loss,
    dense_loss,
    loss_named,
    torch_linear_loss,
)

HAS_TORCH_LINEAR = hasattr(torch.nn, "LinearCrossEntropyOptions")


@pytest.mark.parametrize("rows", [3, 37, 160])
@pytest.mark.parametrize(
    "loss",
    [
        chunked_loss,
        pytest.param(
            torch_linear_loss,
            marks=pytest.mark.skipif(not HAS_TORCH_LINEAR, reason="PyTorch before 2.13 has none"),
        ),
    ],
)
def test_a_loss_in_chunks_is_the_dense_one_with_its_gradients(loss, rows):
    draws = torch.Generator().manual_seed(4)
    hidden = torch.randn(rows, 12, dtype=torch.float64, generator=draws, requires_grad=True)
    head = torch.randn(70, 12, dtype=torch.float64, generator=draws, requires_grad=True)
    targets = torch.randint(0, 70, (rows,), generator=draws)
    found, expected = loss(hidden, head, targets), dense_loss(hidden, head, targets)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(found * 3, (hidden, head))
    for got, true in zip(gradients, torch.autograd.grad(expected * 3, (hidden, head)), strict=True):
        torch.testing.assert_close(got, true, rtol=1e-10, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(loss(hidden, head, targets), expected, rtol=1e-12, atol=0)


@pytest.mark.skipif(importlib.util.find_spec("liger_kernel") is None, reason="liger-kernel is not installed")
def test_the_loss_of_liger_is_the_dense_one_with_its_gradients():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # there under the interpreter
    draws = torch.Generator().manual_seed(4)
    hidden = torch.randn(37, 16, generator=draws).to(device).requires_grad_()
    head = torch.randn(70, 16, generator=draws).to(device).requires_grad_()
    targets = torch.randint(0, 70, (37,), generator=draws).to(device)
    found, expected = (loss(hidden, head, targets) for loss in (loss_named("liger"), dense_loss))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    gradients = torch.autograd.grad(found, (hidden, head))
    for got, true in zip(gradients, torch.autograd.grad(expected, (hidden, head)), strict=True):
        torch.testing.assert_close(got, true, rtol=1e-4, atol=1e-6)


def test_gradients_of_the_chunked_loss_do_not_vanish_in_float16():
    """Of a mean over many rows a gradient is below what float16 holds; the loss's scale comes too late."""
    draws = torch.Generator().manual_seed(4)
    hidden = torch.randn(4096, 8, generator=draws, requires_grad=True)
    head = torch.randn(64, 8, generator=draws, requires_grad=True)
    targets = torch.randint(0, 64, (4096,), generator=draws)
    with torch.autocast("cpu", dtype=torch.float16):
        found = torch.autograd.grad(chunked_loss(hidden, head, targets) * 2.0**16, (hidden, head))
    true = torch.autograd.grad(dense_loss(hidden, head, targets) * 2.0**16, (hidden, head))
    for got, expected in zip(found, true, strict=True):
        assert F.cosine_similarity(got.flatten(), expected.flatten(), dim=0) > 0.9999
        assert got.norm() == pytest.approx(expected.norm().item(), rel=1e-3)


def test_a_loss_that_is_not_there_is_named(monkeypatch):
    with pytest.raises(
        ValueError, match=r"^loss: expected one of dense, chunked, linear_cross_entropy, liger"
    ):
        loss_named("sampled")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"^loss liger: liger-kernel is not installed: pip install"):
        loss_named("liger")
