from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels.block import composed, fast, reference, tensors
from phase8_tune.kernels.block.gate import gate_tiles, hidden_gradient, hidden_layer
from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.gate_inputs import draw_inputs
from phase8_tune.kernels.kernel_set import load
from phase8_tune.kernels.versions import KERNEL_VERSIONS, UnsupportedVersionError, implementation

# Two blocks of queries and more than a window; no power of two in d, the hidden layer, a head or the rank
SHAPE = GateShape(batch=2, n_seq=19, d_model=24, n_heads=2, rank=12, window=16)
SMALL = GateShape(batch=1, n_seq=3, d_model=8, n_heads=2, rank=4, window=2)


def operands(device: torch.device, shape: GateShape = SHAPE) -> tuple[Any, ...]:
    dtype = torch.float32
    inputs = draw_inputs("block", shape, dtype, seed=0)[0]
    leaves = {k: v.to(device, dtype).requires_grad_() for k, v in inputs.compute.items()}
    leaves |= {k: v.to(device, torch.float32).requires_grad_() for k, v in inputs.wide.items()}
    return inputs.arguments(leaves, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_fast_is_within_the_error_budget(dtype: torch.dtype, device: torch.device) -> None:
    result = check_operation("block", "fast", device, dtype, (SHAPE,), draws=2)
    assert result.ok, result


@pytest.mark.parametrize("operation", [fast.block_whole, fast.block_selective], ids=["whole", "selective"])
def test_opcheck(operation: Any, device: torch.device) -> None:
    x, *parameters, n_heads, window, with_residual = operands(device, SMALL)
    arguments = (x, parameters, n_heads, window, with_residual)
    torch.library.opcheck(operation, arguments)
    y, *saved = (t.detach() for t in operation(*arguments))
    constants = ([p.detach() for p in parameters], saved, n_heads, window)
    for grads, residual in (((None, None), True), ((saved[0], saved[1]), False)):
        given = (torch.ones_like(y), *grads, x.detach(), *constants, residual)
        torch.library.opcheck(fast._backward, given)


def test_two_runs_are_bitwise_equal(device: torch.device) -> None:
    given = operands(device)
    leaves = [t for t in given if isinstance(t, Tensor) and t.requires_grad]
    runs = []
    for _ in range(2):
        y, g_re, g_im = fast.block(*given)
        runs.append(torch.autograd.grad(y.square().sum() + (g_re * g_im).sum(), leaves))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("version", KERNEL_VERSIONS)
@pytest.mark.parametrize("with_residual", [True, False])
def test_what_is_computed_again_is_the_same_to_the_bit(
    version: str, with_residual: bool, device: torch.device
) -> None:
    function = implementation("block", version)
    runs = []
    for is_selective in (False, True):
        given = (*operands(device)[:-1], with_residual)
        leaves = [t for t in given if isinstance(t, Tensor) and t.requires_grad]
        y, g_re, g_im = function(*given, is_selective)
        gradients = torch.autograd.grad(y.square().sum() + (g_re * g_im).sum(), leaves)
        runs.append((y, g_re, g_im, *gradients))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_the_resolvent_alone_has_its_gradient(device: torch.device) -> None:
    """A block whose output is not used: what the head side asks of the last block's g."""
    gradients = []
    for function in (reference.block, fast.block):
        given = operands(device)
        _, g_re, _ = function(*given)
        gradients.append(torch.autograd.grad(g_re.sum(), [given[0], given[3]]))
    for exact, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)


def test_product_weights_may_be_bfloat16(device: torch.device) -> None:
    """The numbers are those of the same weights in float32; of gradients theirs alone are rounded."""
    given = operands(device, SMALL)
    places = [1 + tensors.Parameters._fields.index(name) for name in tensors.PRODUCTS]
    runs = []
    for dtype in (torch.bfloat16, torch.float32):
        own = [*given]
        for place in places:
            own[place] = given[place].detach().bfloat16().to(dtype).requires_grad_()
        y, g_re, _ = fast.block(*own)
        leaves = [t for t in own if isinstance(t, Tensor) and t.requires_grad]
        runs.append((y, torch.autograd.grad(y.square().sum() + g_re.sum(), leaves), leaves))
    (y, gradients, leaves), (expected_y, expected, _) = runs
    assert torch.equal(y, expected_y)
    for leaf, one, other in zip(leaves, gradients, expected, strict=True):
        assert one.dtype == leaf.dtype
        assert torch.equal(one, other.to(leaf.dtype))


def test_incoming_gradients_are_not_changed(device: torch.device) -> None:
    """The backward adds in place, but only to what is its own."""
    given = operands(device)
    outputs = fast.block(*given)
    incoming = [torch.randn_like(output) for output in outputs]
    before = [grad.clone() for grad in incoming]
    torch.autograd.grad(outputs, given[0], incoming)
    assert all(torch.equal(a, b) for a, b in zip(before, incoming, strict=True))


@pytest.mark.parametrize(("count", "hidden", "rank"), [(1, 6, 32), (700, 12, 5), (3000, 128, 32)])
def test_hidden_layer_and_its_gradient(count: int, hidden: int, rank: int, device: torch.device) -> None:
    wide = torch.randn(count, hidden + 7, device=device)
    projected, bias = wide[:, 3 : 3 + hidden], torch.randn(hidden, device=device)
    found = hidden_layer(projected, bias)
    assert torch.equal(found, torch.relu(projected + bias))
    by_hidden, by_logits = torch.randn_like(found), torch.randn(count, rank, device=device)
    written = torch.full_like(wide, float("nan"))
    sums = hidden_gradient(by_hidden, found, by_logits, written[:, 3 : 3 + hidden])
    by_bias, by_logit_bias = sums.split([hidden, rank])
    expected = torch.where(found > 0, by_hidden, 0.0)
    assert torch.equal(written[:, 3 : 3 + hidden], expected)
    assert written[:, :3].isnan().all()
    assert written[:, 3 + hidden :].isnan().all()
    torch.testing.assert_close(by_bias, expected.sum(0), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(by_logit_bias, by_logits.sum(0), rtol=1e-5, atol=1e-4)


def test_nan_is_not_hidden_by_the_relu(device: torch.device) -> None:
    projected = torch.full((2, 4), float("nan"), device=device)
    assert hidden_layer(projected, torch.zeros(4, device=device)).isnan().all()


def test_a_program_holds_as_many_numbers_at_every_width() -> None:
    tiles = [gate_tiles(1 << 16, hidden, 32) for hidden in (32, 128, 256, 384)]
    assert [tile.rows * tile.width for tile in tiles] == [4096] * 4
    assert {tile.programs for tile in tiles} == {512, 528}


def test_a_choice_by_operation_composes_the_block(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: dict[str, str] = {}

    def noting(operation: str, version: str) -> Any:
        chosen[operation] = version
        return implementation(operation, version)

    monkeypatch.setattr(composed, "implementation", noting)
    given = operands(device)
    assert load({"window_attention": "fast", "block": "fast"}).block is fast.block
    y = load({"window_attention": "fast"}).block(*given)[0]
    assert chosen.pop("window_attention") == "fast"
    assert set(chosen.values()) == {"reference"}
    torch.testing.assert_close(y, reference.block(*given)[0], rtol=1e-4, atol=1e-4)


def test_what_the_kernels_do_not_take_is_refused(device: torch.device) -> None:
    given = operands(device)
    with pytest.raises(UnsupportedVersionError, match="float64"):
        fast.block(given[0].double(), *given[1:])
    wrong = [*given]
    wrong[7] = given[7].double()
    with pytest.raises(UnsupportedVersionError, match="expected in_weight in float32"):
        fast.block(*wrong)
