from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.gate_inputs import draw_inputs
from phase8_tune.kernels.mix_norm import fast, reference, tiles
from phase8_tune.kernels.versions import UnsupportedVersionError

# Several column tiles, the last not full; a rank that is no power of two
WIDE = GateShape(batch=2, n_seq=5, d_model=164, n_heads=1, rank=12)
SHAPES = (
    GateShape(batch=16, n_seq=1, d_model=24, n_heads=2),  # 16, as in the gate: one alone would be of luck
    GateShape(
        batch=2, n_seq=11, d_model=40, n_heads=2
    ),  # tiles of 2 and of 4 rows hold tokens of both sequences
    WIDE,
)
SMALL = GateShape(batch=1, n_seq=3, d_model=8, n_heads=1, rank=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_fast_is_within_the_error_budget(dtype: torch.dtype, device: torch.device) -> None:
    result = check_operation("mix_norm", "fast", device, dtype, SHAPES, draws=2)
    assert result.ok, result


def test_a_program_takes_many_tiles(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at real sizes: 37 tokens are 19 tiles of the backward, for 3 programs here."""
    monkeypatch.setattr(tiles, "_PROGRAMS", 3)
    assert tiles.row_tiles(37, 48, backward=True).programs == 3
    shape = GateShape(batch=1, n_seq=37, d_model=48, n_heads=3)
    result = check_operation("mix_norm", "fast", device, torch.float32, (shape,), draws=1)
    assert result.ok, result


def test_a_row_is_spread_over_enough_threads() -> None:
    """8 columns a thread: rows and their sums fit the registers at every width of the presets."""
    assert [tiles.row_tiles(64, d, backward=True).warps for d in (128, 512, 1024, 1536)] == [1, 2, 4, 8]


def operands(device: torch.device, shape: GateShape = WIDE) -> tuple[Any, ...]:
    dtype = torch.float32
    inputs = draw_inputs("mix_norm", shape, dtype, seed=0)[0]
    leaves = {k: v.to(device, dtype).requires_grad_() for k, v in inputs.compute.items()}
    leaves |= {k: v.to(device, torch.float32).requires_grad_() for k, v in inputs.wide.items()}
    return inputs.arguments(leaves, dtype)


def test_opcheck(device: torch.device) -> None:
    given = operands(device, SMALL)
    torch.library.opcheck(fast._mix_norm, given)
    torch.library.opcheck(fast._mix_norm, (*given[:-1], None))
    y, mean, rstd = (t.detach() for t in fast._mix_norm(*given))
    kept = [t.detach() for t in (*given[:10], *given[11:14])]
    torch.library.opcheck(fast._backward, (torch.ones_like(y), *kept, mean, rstd))


def test_sequences_do_not_leak_into_each_other(device: torch.device) -> None:
    given = operands(device)
    gradients = []
    n: Tensor = given[2]
    for sequence in range(2):
        y = fast.mix_norm(*given)
        (grad,) = torch.autograd.grad(y[sequence].sum(), n)
        gradients.append(grad)
        assert (grad[1 - sequence] == 0).all()
        assert (grad[sequence] != 0).any()


def test_it_is_causal(device: torch.device) -> None:
    given = operands(device)
    before = fast.mix_norm(*given)
    changed = given[2].detach().clone()
    changed[:, 3:] += 1
    after = fast.mix_norm(given[0], given[1], changed, *given[3:])
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])


def test_views_give_the_same_bits(device: torch.device) -> None:
    given = operands(device)
    local, ranked, n = (torch.cat([t, t], dim=-1)[..., : t.shape[-1]] for t in given[:3])
    assert not local.is_contiguous()
    assert torch.equal(fast.mix_norm(local, ranked, n, *given[3:]), fast.mix_norm(*given))
    expected = reference.mix_norm(*given)
    torch.testing.assert_close(fast.mix_norm(*given), expected)


def test_two_runs_are_bitwise_equal(device: torch.device) -> None:
    given = operands(device)
    runs = [torch.autograd.grad(fast.mix_norm(*given).square().sum(), given) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_what_the_kernel_does_not_take_is_refused(device: torch.device) -> None:
    given = operands(device)
    with pytest.raises(UnsupportedVersionError, match=r"mix_norm: expected one of float32, .*got float64"):
        fast.mix_norm(given[0].double(), *given[1:])
