"""Sums of gradients: in place where autograd holds the first alone, as it does without a dispatch mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from phase8_tune.tuner.predict.trace.events import FREE
from phase8_tune.tuner.predict.trace.tracer import Tracer

from .traces import LIMITS

SIZE = 64


class _Twice(torch.autograd.Function):
    """A product whose backward function in Python hands one tensor to both inputs."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        return first * second

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        doubled = gradient * 2
        return doubled, doubled


def _sole(x: Tensor) -> Tensor:
    return x.sin() + x.cos() * x.tanh()


def _shared(x: Tensor) -> Tensor:
    return x.exp() + x + x


def _expanded(x: Tensor) -> Tensor:
    return x.sum() + x.sin().mean()


def _view(x: Tensor) -> Tensor:
    return x.t().exp() + x.sin()


def _slices(x: Tensor) -> Tensor:
    return x[1:] * x[:-1] + x[0]


def _twice(x: Tensor) -> Tensor:
    y: Tensor = _Twice.apply(x, x)
    return y + x.sin()


def _kept(x: Tensor) -> Tensor:
    x.register_hook(lambda gradient: gradient)
    return x.sin() * x.cos()


@pytest.mark.parametrize("function", [_sole, _shared, _expanded, _view, _slices, _twice, _kept])
def test_backward_allocates_what_it_does_without_the_tracer(function):
    """PyTorch's own profiler counts the allocations of the same backward pass on the CPU."""
    with torch.autograd.set_multithreading_enabled(False):
        leaf = torch.randn(SIZE, SIZE, requires_grad=True)
        loss = function(leaf * 2.0).sum()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            loss.backward()
        with Tracer(torch.device("meta"), LIMITS.processors) as tracer:
            like = torch.zeros(SIZE, SIZE, requires_grad=True, device="meta")
            loss = function(like * 2.0).sum()
            tracer.log.take()
            loss.backward()
            events = tracer.log.take()
    whole = 4 * SIZE * (SIZE - 1)  # the scalars' allocations are not looked at
    real = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [e.nbytes() for e in real if e.nbytes() >= whole]
    assert [e.size_bytes for e in events if e.size_bytes >= whole] == sizes
    assert len(sizes) > 1
    assert any(e.size_bytes == FREE for e in events)


def test_a_sole_gradient_serves_as_the_sum():
    """sin x + cos x: two gradients meet; the only sum that takes memory is the forward pass's."""
    with (
        torch.autograd.set_multithreading_enabled(False),
        Tracer(torch.device("meta"), LIMITS.processors) as tracer,
    ):
        x = torch.zeros(SIZE, requires_grad=True, device="meta")
        (x.sin() + x.cos()).backward(torch.zeros(SIZE, device="meta"))
        taken = [event.op for event in tracer.log.take() if event.size_bytes > 0]
    assert taken.count("aten.add.Tensor") == 1
