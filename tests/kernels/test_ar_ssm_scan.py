from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels import device_limits
from phase8_tune.kernels.ar_ssm_scan import operator
from phase8_tune.kernels.ar_ssm_scan.operator import TOKENS, configuration
from phase8_tune.kernels.ar_ssm_scan.reference import ar_ssm_scan, ar_ssm_scan_loop, decays
from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.versions import UnsupportedVersionError, implementation

VERSIONS = ["v2", "fast"]


def arguments(batch: int, n_seq: int, rank: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """gate_logits, u, v and the model's decays."""
    generator = torch.Generator().manual_seed(0)
    gate_logits, u, v = torch.randn(3, batch, n_seq, rank, generator=generator, dtype=torch.float64)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return gate_logits.to(dtype), u.to(dtype), v.to(dtype), decays(rank, dtype=wide)


def test_decays_are_the_definition() -> None:
    exponents = torch.tensor([0.5 + 9.5 * k / 31 for k in range(32)], dtype=torch.float64)
    expected = 1 - 2.0**-exponents
    torch.testing.assert_close(decays(32, dtype=torch.float64), expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(decays(32).double(), expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("n_seq", [1, 2, 3, 8, 21])
def test_reference_is_the_loop(n_seq: int) -> None:
    inputs = arguments(2, n_seq, 5)
    torch.testing.assert_close(ar_ssm_scan(*inputs), ar_ssm_scan_loop(*inputs), rtol=1e-12, atol=1e-12)


def test_reference_is_the_dense_semiseparable_matrix() -> None:
    gate_logits, u, v, decay = arguments(1, 9, 3)
    gate = torch.sigmoid(gate_logits)
    i = torch.arange(9)
    powers = decay ** (i[:, None, None] - i[None, :, None]).clamp_min(0)
    matrix = torch.where((i[:, None] >= i[None, :])[..., None], powers, 0) * (1 - decay)
    expected = gate * v * torch.einsum("ijr,bjr->bir", matrix, gate * u)
    torch.testing.assert_close(ar_ssm_scan(gate_logits, u, v, decay), expected, rtol=1e-12, atol=1e-12)


def test_reference_gradients() -> None:
    inputs = tuple(x.requires_grad_() for x in arguments(1, 6, 2))
    assert torch.autograd.gradcheck(ar_ssm_scan, inputs)


# Triton's interpreter cuts bfloat16 results off instead of rounding them
DTYPES = [torch.float32, torch.float16] + [torch.bfloat16] * torch.cuda.is_available()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("version", VERSIONS)
def test_version_is_within_the_error_budget(version: str, dtype: torch.dtype, device: torch.device) -> None:
    shapes = (
        GateShape(batch=2, n_seq=1, d_model=8, n_heads=1),
        GateShape(batch=2, n_seq=53, d_model=8, n_heads=1, rank=20),
    )
    result = check_operation("ar_ssm_scan", version, device, dtype, shapes, draws=1)
    assert result.ok, result.failures


@pytest.mark.parametrize("version", ["v2", "fast"])
def test_long_sequences_keep_the_slowest_decay(version: str, device: torch.device) -> None:
    """λ = 1 − 2^−10 remembers a thousand tokens, across segments of more than one load."""
    shape = GateShape(batch=1, n_seq=1100, d_model=8, n_heads=1, rank=3)
    assert configuration(1100, 3).length > TOKENS
    result = check_operation("ar_ssm_scan", version, device, torch.float32, (shape,), draws=1)
    assert result.ok, result.failures


@pytest.mark.parametrize("version", VERSIONS)
def test_chunks_are_within_the_error_budget(
    version: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten chunks, more than are walked over at once, of two segments; the last one cut off."""
    for name, size in {"SEGMENTS": 2, "_LENGTH": TOKENS, "_CHUNKS": 10}.items():
        monkeypatch.setattr(operator, name, size)
    cut = configuration(149, 3)
    assert (cut.chunks, cut.segments, cut.length) == (10, 2, TOKENS)
    shape = GateShape(batch=1, n_seq=149, d_model=8, n_heads=1, rank=3)
    result = check_operation("ar_ssm_scan", version, device, torch.float32, (shape,), draws=1)
    assert result.ok, result.failures


def test_gradients_are_the_same_in_two_runs(device: torch.device) -> None:
    def gradients() -> tuple[Tensor, ...]:
        *leaves, decay = (x.to(device) for x in arguments(2, 20, 8, torch.float16))
        leaves = [x.requires_grad_() for x in leaves]
        out = implementation("ar_ssm_scan", "fast")(*leaves, decay)
        return torch.autograd.grad(out.float().square().sum(), leaves)

    assert all(torch.equal(one, two) for one, two in zip(gradients(), gradients(), strict=True))


def test_fast_saves_only_its_inputs(device: torch.device) -> None:
    inputs = [x.to(device) for x in arguments(1, 20, 8, torch.float16)]
    leaves = [x.requires_grad_() for x in inputs[:3]]
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.data_ptr()), lambda x: x):
        implementation("ar_ssm_scan", "fast")(*leaves, inputs[3])
    assert set(saved) == {x.data_ptr() for x in inputs}


@pytest.mark.parametrize("version", VERSIONS)
def test_opcheck(version: str, device: torch.device) -> None:
    *leaves, decay = (x.to(device) for x in arguments(1, 10, 6, torch.float32))
    implementation("ar_ssm_scan", version)
    if version == "fast":
        inputs = (*(x.requires_grad_() for x in leaves), decay)
        torch.library.opcheck(torch.ops.phase8.ar_ssm_scan_fast.default, inputs)
        inputs = tuple(x.detach() for x in inputs)
        torch.library.opcheck(
            torch.ops.phase8.ar_ssm_scan_fast_backward.default, (leaves[1].detach(), *inputs)
        )
    else:
        op = getattr(torch.ops.phase8, f"decayed_sum_{version}").default
        for reverse in (False, True):
            torch.library.opcheck(op, (leaves[1].requires_grad_(), decay, reverse))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_computed_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function: Any = implementation("ar_ssm_scan", version)
    gate_logits, u, v, decay = arguments(1, 3, 4, torch.float32)
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedVersionError, match="expected a constant decay"):
            function(gate_logits, u, v, decay.requires_grad_())
        with pytest.raises(UnsupportedVersionError, match="expected gate_logits, u and v in the same"):
            function(gate_logits.half(), u, v, decay.detach())
        with pytest.raises(UnsupportedVersionError, match=r"in float32, got torch\.float64"):
            function(*arguments(1, 3, 4))
    monkeypatch.setattr(device_limits, "interpreting", lambda: False)
    with pytest.raises(UnsupportedVersionError, match="expected tensors on a CUDA GPU, got cpu"):
        function(gate_logits, u, v, decay.detach())


@pytest.mark.parametrize("n_seq", [1, 7, 256, 1000, 4096, 5000, 131072])
@pytest.mark.parametrize("rank", [1, 20, 32, 48])
def test_configurations_cover_the_sequence(n_seq: int, rank: int) -> None:
    cut = configuration(n_seq, rank)
    assert (cut.chunks - 1) * cut.segments * cut.length < n_seq <= cut.chunks * cut.segments * cut.length
    assert cut.length % TOKENS == 0
    assert 1 <= cut.num_warps <= 16


def test_long_rows_are_cut_into_chunks() -> None:
    assert [configuration(n_seq, 32).chunks for n_seq in (1024, 4096, 32768, 131072)] == [1, 4, 32, 64]
