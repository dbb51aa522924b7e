from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels import device_limits
from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.rank_scan import v2
from phase8_tune.kernels.rank_scan.reference import rank_scan, rank_scan_loop
from phase8_tune.kernels.rank_scan.v2 import block_count, scratch_numbers
from phase8_tune.kernels.versions import UnsupportedVersionError, implementation

VERSIONS = ["v2"]
SHAPES = (
    GateShape(batch=2, n_seq=1, d_model=24, n_heads=2),
    GateShape(batch=2, n_seq=37, d_model=40, n_heads=2),
)


def arguments(batch: int, n_seq: int, rank: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """w, and a matrix of spectral norm 1, the largest the model allows."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(batch, n_seq, rank, generator=generator, dtype=torch.float64)
    matrix = torch.randn(rank, rank, generator=generator, dtype=torch.float64)
    return w.to(dtype), (matrix / torch.linalg.matrix_norm(matrix, ord=2)).to(dtype)


@pytest.mark.parametrize("n_seq", [1, 2, 3, 8, 21])
def test_reference_is_the_loop(n_seq: int) -> None:
    w, matrix = arguments(2, n_seq, 5)
    torch.testing.assert_close(rank_scan(w, matrix), rank_scan_loop(w, matrix), rtol=1e-12, atol=1e-12)


def test_reference_solves_the_dense_system() -> None:
    w, matrix = arguments(1, 7, 3)
    shift = torch.diag(torch.ones(6, dtype=torch.float64), -1)
    system = torch.eye(21, dtype=torch.float64) - torch.kron(shift, matrix)
    expected = torch.linalg.solve(system, w.reshape(21)).reshape(1, 7, 3)
    torch.testing.assert_close(rank_scan(w, matrix), expected, rtol=1e-12, atol=1e-12)


def test_reference_gradients() -> None:
    assert torch.autograd.gradcheck(rank_scan, tuple(x.requires_grad_() for x in arguments(2, 6, 3)))


@pytest.mark.parametrize("version", VERSIONS)
def test_version_is_within_the_error_budget(version: str, device: torch.device) -> None:
    result = check_operation("rank_scan", version, device, torch.float32, SHAPES, draws=1)
    assert result.ok, result.failures


@pytest.mark.parametrize(("n_seq", "rank"), [(256, 32), (257, 20), (769, 33)])
def test_blocks_are_within_the_error_budget(n_seq: int, rank: int, device: torch.device) -> None:
    """A full block; one token in a second; four blocks, with a tile that the rank does not fill."""
    shape = GateShape(batch=2, n_seq=n_seq, d_model=8, n_heads=1, rank=rank)
    result = check_operation("rank_scan", "v2", device, torch.float32, (shape,), draws=1)
    assert result.ok, result.failures


def test_ends_of_blocks_in_blocks_are_within_the_error_budget(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 16 tokens: 19 of them, whose ends are two blocks, whose one end is a third level."""
    monkeypatch.setattr(v2, "_LOG_LENGTH", 0)
    monkeypatch.setattr(v2, "_TOKENS", 16)
    shape = GateShape(batch=1, n_seq=300, d_model=8, n_heads=1, rank=5)
    result = check_operation("rank_scan", "v2", device, torch.float32, (shape,), draws=1)
    assert result.ok, result.failures


@pytest.mark.parametrize("version", VERSIONS)
def test_a_rotation_is_not_damped(version: str, device: torch.device) -> None:
    """An orthogonal M keeps every token's contribution to the end: errors of its powers would show."""
    w, matrix = arguments(1, 300, 16)
    matrix = torch.linalg.qr(matrix)[0].float()
    exact = rank_scan_loop(w.float().double(), matrix.double())
    own = rank_scan(w.float(), matrix)
    got = implementation("rank_scan", version)(w.float().to(device), matrix.to(device)).cpu()
    assert (got - exact).norm() <= 2 * (own - exact).norm()


@pytest.mark.parametrize("version", VERSIONS)
def test_gradients_are_the_same_in_two_runs(version: str, device: torch.device) -> None:
    def gradients() -> tuple[Tensor, ...]:
        leaves = [x.to(device).requires_grad_() for x in arguments(2, 40, 12, torch.float32)]
        return torch.autograd.grad(implementation("rank_scan", version)(*leaves).square().sum(), leaves)

    assert all(torch.equal(one, two) for one, two in zip(gradients(), gradients(), strict=True))


@pytest.mark.parametrize("version", VERSIONS)
def test_opcheck(version: str, device: torch.device) -> None:
    w, matrix = (x.to(device) for x in arguments(1, 2, 3, torch.float32))
    implementation("rank_scan", version)
    forward = getattr(torch.ops.phase8, f"rank_scan_{version}").default
    torch.library.opcheck(forward, (w.clone().requires_grad_(), matrix.clone().requires_grad_()))
    backward = getattr(torch.ops.phase8, f"rank_scan_{version}_backward").default
    torch.library.opcheck(backward, (w, w, matrix))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_computed_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function: Any = implementation("rank_scan", version)
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedVersionError, match=r"expected w in float32, got torch\.float64"):
            function(*arguments(1, 3, 4))
        with pytest.raises(UnsupportedVersionError, match="expected a rank of at most 64, got 65"):
            function(*arguments(1, 3, 65, torch.float32))
    monkeypatch.setattr(device_limits, "interpreting", lambda: False)
    with pytest.raises(UnsupportedVersionError, match="expected tensors on a CUDA GPU, got cpu"):
        function(*arguments(1, 3, 4, torch.float32))


def test_block_count() -> None:
    assert [block_count(n) for n in (1, 256, 257, 4096)] == [1, 1, 2, 16]


def test_scratch_numbers() -> None:
    """None for one block; of 127 their ends, states and a power; of 511, a level more for their one end."""
    assert scratch_numbers(1, 256, 32) == 0
    assert scratch_numbers(1, 32768, 32) == 2 * 127 * 32 + 32 * 32
    assert scratch_numbers(2, 131072, 32) == 2 * (2 * 511 * 32 + 2 * 32) + 2 * 32 * 32
