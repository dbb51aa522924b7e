from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels import device_limits
from phase8_tune.kernels.bk_gate import fast
from phase8_tune.kernels.bk_gate.reference import ENERGY, bk_gate
from phase8_tune.kernels.bk_scan.reference import bk_scan_loop
from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.versions import UnsupportedVersionError, implementation

VERSIONS = ["v1", "v2", "fast"]


def arguments(
    batch: int, n_seq: int, d: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h, abc, weight and bias, random."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    wide = torch.float64 if dtype == torch.float64 else torch.float32
    h, abc = draw(batch, n_seq, d).to(dtype), draw(batch, n_seq, 3 * d).to(dtype)
    return h, abc, draw(2).to(wide), draw().to(wide)


def gate_loop(h: Tensor, abc: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The definition channel by channel, token by token."""
    a, b, c = abc.split(h.shape[-1], dim=-1)
    b, c = torch.sigmoid(b), torch.sigmoid(c)
    g = torch.zeros_like(a[:, 0]) * 1j
    out = []
    for i in range(h.shape[1]):
        hopping = b[:, i - 1] * c[:, i] if i else torch.zeros_like(a[:, 0])
        g = 1 / (a[:, i] - complex(*ENERGY) - hopping * g)
        out.append(h[:, i] * (1 + torch.sigmoid(weight[0] * g.real + weight[1] * g.imag + bias)))
    return torch.stack(out, 1)


@pytest.mark.parametrize("n_seq", [1, 16, 19])
def test_reference_is_the_definition(n_seq: int) -> None:
    inputs = arguments(2, n_seq, 3)
    torch.testing.assert_close(bk_gate(*inputs), gate_loop(*inputs), rtol=1e-12, atol=1e-12)
    by_loop = bk_gate(*inputs, scan=bk_scan_loop)
    torch.testing.assert_close(bk_gate(*inputs), by_loop, rtol=1e-12, atol=1e-12)


def test_reference_gradients() -> None:
    inputs = tuple(x.requires_grad_() for x in arguments(1, 5, 2))
    assert torch.autograd.gradcheck(bk_gate, inputs)


# Triton's interpreter cuts bfloat16 results off instead of rounding them
DTYPES = [torch.float32, torch.float16] + [torch.bfloat16] * torch.cuda.is_available()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fast_is_within_the_error_budget(dtype: torch.dtype, device: torch.device) -> None:
    shapes = (
        GateShape(batch=2, n_seq=1, d_model=24, n_heads=1),
        GateShape(batch=1, n_seq=21, d_model=40, n_heads=1),
    )
    result = check_operation("bk_gate", "fast", device, dtype, shapes, draws=2)
    assert result.ok, result.failures


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_composed_versions_are_within_the_error_budget(version: str, device: torch.device) -> None:
    shape = GateShape(batch=1, n_seq=37, d_model=24, n_heads=1)
    result = check_operation("bk_gate", version, device, torch.float32, (shape,))
    assert result.ok, result.failures


@pytest.mark.parametrize("lanes", [1, 2 * 24])
def test_every_number_of_segments_is_within_the_budget(
    lanes: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One segment; then two, of two groups of tokens each, the last one cut off by the sequence's end."""
    monkeypatch.setattr(fast, "_WANTED_LANES_FORWARD", lanes)
    monkeypatch.setattr(fast, "_WANTED_LANES_BACKWARD", lanes)
    segments = 1 if lanes == 1 else 2
    assert fast.forward_configuration(1, 53, 24).segments == segments
    assert fast.backward_configuration(1, 53, 24).segments == segments
    shape = GateShape(batch=1, n_seq=53, d_model=24, n_heads=1)
    result = check_operation("bk_gate", "fast", device, torch.float32, (shape,), draws=1)
    assert result.ok, result.failures


def test_chunks_are_within_the_error_budget(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three chunks of two segments each way, the last one cut off."""
    sizes = {"_SEGMENTS_FORWARD": 2, "_SEGMENTS_BACKWARD": 2, "_CHUNK": 16, "_CHUNKS": 3}
    for name, size in sizes.items():
        monkeypatch.setattr(fast, name, size)
    for configuration in (fast.forward_configuration, fast.backward_configuration):
        cut = configuration(1, 45, 24)
        assert (cut.chunks, cut.segments, cut.length) == (3, 2, 8)
    shape = GateShape(batch=1, n_seq=45, d_model=24, n_heads=1)
    result = check_operation("bk_gate", "fast", device, torch.float32, (shape,), draws=1)
    assert result.ok, result.failures


def test_strided_inputs_are_read_in_place(device: torch.device) -> None:
    h, abc, weight, bias = (x.to(device) for x in arguments(2, 7, 24, torch.float32))
    fused = torch.cat([h, abc, h], dim=-1)
    h_view, abc_view, _ = fused.split([24, 72, 24], dim=-1)
    contiguous = implementation("bk_gate", "fast")(h, abc, weight, bias)
    assert torch.equal(implementation("bk_gate", "fast")(h_view, abc_view, weight, bias), contiguous)


def test_gradients_are_the_same_in_two_runs(device: torch.device) -> None:
    def gradients() -> tuple[Tensor, ...]:
        leaves = [x.to(device).requires_grad_() for x in arguments(2, 11, 24, torch.float16)]
        return torch.autograd.grad(implementation("bk_gate", "fast")(*leaves).float().square().sum(), leaves)

    assert all(torch.equal(one, two) for one, two in zip(gradients(), gradients(), strict=True))


def test_little_is_saved_for_backward(device: torch.device) -> None:
    inputs = [x.to(device).requires_grad_() for x in arguments(1, 64, 24, torch.float16)]
    saved: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        saved.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        implementation("bk_gate", "fast")(*inputs)
    known = {x.data_ptr() for x in inputs}
    beyond = sum(x.nbytes for x in saved if x.data_ptr() not in known)
    assert beyond == 8 * 24 * (64 // fast.TOKENS)


def test_opcheck(device: torch.device) -> None:
    inputs = tuple(x.to(device).requires_grad_() for x in arguments(1, 2, 4, torch.float32))
    torch.library.opcheck(torch.ops.phase8.bk_gate_fast.default, inputs)
    inputs = tuple(x.detach() for x in inputs)
    out, entering, _ = torch.ops.phase8.bk_gate_fast.default(*inputs)
    torch.library.opcheck(torch.ops.phase8.bk_gate_fast_backward.default, (out, *inputs, entering))


@pytest.mark.parametrize("version", VERSIONS)
def test_other_dtypes_and_devices_are_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function: Any = implementation("bk_gate", version)
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedVersionError, match=r"in float32, got torch\.float64"):
            function(*arguments(1, 3, 4))
    monkeypatch.setattr(device_limits, "interpreting", lambda: False)
    with pytest.raises(UnsupportedVersionError, match="expected tensors on a CUDA GPU, got cpu"):
        function(*arguments(1, 3, 4, torch.float32))


@pytest.mark.parametrize("batch", [1, 8, 64, 512])
@pytest.mark.parametrize("n_seq", [1, 7, 256, 1000, 4096, 131072])
@pytest.mark.parametrize("d_model", [40, 512, 1536])
def test_configurations_cover_the_sequence_in_whole_groups(batch: int, n_seq: int, d_model: int) -> None:
    for configuration in (fast.forward_configuration, fast.backward_configuration):
        cut = configuration(batch, n_seq, d_model)
        assert (cut.chunks - 1) * cut.segments * cut.length < n_seq <= cut.chunks * cut.segments * cut.length
        assert cut.length % fast.TOKENS == 0
        assert 1 <= cut.num_warps <= 16


def test_long_rows_are_cut_into_chunks() -> None:
    for configuration in (fast.forward_configuration, fast.backward_configuration):
        chunks = [configuration(1, n_seq, 512).chunks for n_seq in (1024, 4096, 32768, 131072)]
        assert chunks == [1, 2, 16, 32]
