"""The head's expanded table and its gradient: many tiles, parts and blocks of the rank; memory of a block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from phase8_tune.kernels.gate import poisoned_memory
from phase8_tune.kernels.htt_cross_entropy import plan, table
from phase8_tune.kernels.htt_embedding import reference


@pytest.mark.parametrize("programs", [1, 5, 528])
@pytest.mark.parametrize(
    ("v", "rank", "dims", "d_model"),
    [((9, 8), 5, (17, 13), 200), ((3, 40), 70, (64, 8), 512), ((40, 3), 16, (1, 70), 70)],
)
def test_table_and_its_gradient(
    v: tuple[int, int],
    rank: int,
    dims: tuple[int, int],
    d_model: int,
    programs: int,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "_PROGRAMS", programs)
    generator = torch.Generator().manual_seed(0)
    sizes = ((v[0], rank, dims[0]), (v[1], rank, dims[1]), (rank,))
    cores = [torch.randn(size, generator=generator).to(device) for size in sizes]
    shape = plan.HeadShape(
        tokens=1, d_model=d_model, vocab_size=v[0] * v[1], v1=v[0], v2=v[1], rank=rank, d1=dims[0], d2=dims[1]
    )
    gradient = torch.randn((shape.columns, d_model), generator=generator).to(device)
    exact = [core.double().requires_grad_() for core in cores]
    expected = reference.expand_table(exact[0], exact[1], exact[2], shape.vocab_size, d_model)
    expected_gradients = torch.autograd.grad(expected, exact, 0.5 * gradient[: shape.vocab_size].double())
    with poisoned_memory():
        got = torch.empty((shape.columns, d_model), device=device)
        table.expand_table(cores[0], cores[1], cores[2], shape, got)
        scratch = {"table": got} | plan.allocate(table.contraction_buffers(shape), device)
        gradients = table.contract_table(gradient, cores[0], cores[1], cores[2], shape, scratch, 0.5)
    assert not got[shape.vocab_size :].any()
    for a, b in zip((got[: shape.vocab_size], *gradients), (expected, *expected_gradients), strict=True):
        assert torch.dist(a.double(), b) <= 1e-6 * b.norm()


def test_table_kernels_fit_the_shared_memory_of_every_known_gpu(
    compiled: Callable[[str], list[dict[str, Any]]],
) -> None:
    assert len(compiled("compile_head_table.py")) == 8
