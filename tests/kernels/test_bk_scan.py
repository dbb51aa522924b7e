from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from phase8_tune.kernels import device_limits
from phase8_tune.kernels.bk_scan import v1, v2
from phase8_tune.kernels.bk_scan.reference import bk_scan, bk_scan_loop, first_order_scan
from phase8_tune.kernels.gate import check_operation
from phase8_tune.kernels.gate_draws import GateShape
from phase8_tune.kernels.versions import UnsupportedVersionError, implementation

VERSIONS = ["v1", "v2"]
SHAPES = (
    GateShape(batch=2, n_seq=1, d_model=24, n_heads=1),
    GateShape(batch=1, n_seq=21, d_model=40, n_heads=1),
)
N_SEQS = [1, 2, 15, 16, 17, 40]  # around the reference's chunks of 16


def chain(
    *shape: int, hopping: bool, dtype: torch.dtype = torch.float64, energy: tuple[float, float] = (0.3, 0.1)
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Arguments of a BK scan: random on-site energies up to ±v_max = 5, hoppings in (0, 1)."""
    generator = torch.Generator().manual_seed(0)
    onsite = 5 * torch.tanh(torch.randn(shape, generator=generator, dtype=torch.float64))
    t = torch.sigmoid(torch.randn(shape, generator=generator, dtype=torch.float64)) if hopping else None
    re, im = (torch.tensor(part, dtype=dtype) for part in energy)
    return onsite.to(dtype), None if t is None else t.to(dtype), re, im


def assert_within_budget(got: Tensor, own: Tensor, exact: Tensor) -> None:
    """Error of `got` at most twice that of the reference at the same precision, `own`."""
    assert (got.double() - exact).norm() <= 2 * (own.double() - exact).norm()


@pytest.mark.parametrize("n_seq", N_SEQS)
@pytest.mark.parametrize(("channels", "hopping"), [((), False), ((3,), True), ((3,), False)])
def test_reference_is_the_loop(n_seq: int, channels: tuple[int, ...], hopping: bool) -> None:
    arguments = chain(2, n_seq, *channels, hopping=hopping)
    for got, expected in zip(bk_scan(*arguments), bk_scan_loop(*arguments), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("hopping", [False, True])
def test_reference_is_the_last_entry_of_the_dense_inverse(hopping: bool) -> None:
    onsite, t, re, im = chain(1, 12, hopping=hopping)
    g_re, g_im = bk_scan(onsite, t, re, im)
    off = torch.ones(11, dtype=torch.float64) if t is None else t[0, 1:].sqrt()
    hamiltonian = torch.diag(onsite[0]) + torch.diag(off, 1) + torch.diag(off, -1)
    shifted = hamiltonian - torch.complex(re, im) * torch.eye(12, dtype=torch.float64)
    for i in range(12):
        expected = torch.linalg.inv(shifted[: i + 1, : i + 1])[i, i]
        torch.testing.assert_close(torch.complex(g_re, g_im)[0, i], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("shape", "hopping"), [((2, 19), False), ((2, 18, 2), True)])
def test_reference_gradients(shape: tuple[int, ...], hopping: bool) -> None:
    onsite, t, re, im = chain(*shape, hopping=hopping)
    leaves = [x.requires_grad_() for x in (onsite, re, im)]
    if t is None:
        assert torch.autograd.gradcheck(lambda v, *z: bk_scan(v, None, *z), leaves)
    else:
        assert torch.autograd.gradcheck(
            lambda v, re, im, t: bk_scan(v, t, re, im), [*leaves, t.requires_grad_()]
        )


def test_resolvent_is_bounded_and_causal() -> None:
    onsite, _, re, im = chain(3, 200, hopping=False)
    g_re, g_im = bk_scan(onsite, None, re, im)
    assert (g_im > 0).all()
    assert (g_re.square() + g_im.square() <= (1 / im) ** 2).all()
    onsite[:, 100:] += 1
    changed = bk_scan(onsite, None, re, im)[0]
    assert torch.equal(changed[:, :100], g_re[:, :100])
    assert not torch.equal(changed[:, 100], g_re[:, 100])


def test_first_order_scan_is_the_loop() -> None:
    a, b = torch.randn(2, 2, 21, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    y, rows = torch.zeros_like(b[:, 0]), []
    for i in range(21):
        y = a[:, i] * y + b[:, i]
        rows.append(y)
    torch.testing.assert_close(first_order_scan(a, b), torch.stack(rows, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("version", VERSIONS)
def test_version_is_within_the_error_budget(version: str, device: torch.device) -> None:
    result = check_operation("bk_scan", version, device, torch.float32, SHAPES)
    assert result.ok, result.failures


def test_segments_of_several_groups_are_within_the_error_budget(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two segments of three groups of tokens, the last one cut off by the sequence's end."""
    monkeypatch.setattr(v2, "_WANTED_LANES", 2 * 24)
    cut = v2.configuration(1, 37, 24)
    assert (cut.segments, cut.length) == (2, 24)
    shape = GateShape(batch=1, n_seq=37, d_model=24, n_heads=1)
    result = check_operation("bk_scan", "v2", device, torch.float32, (shape,))
    assert result.ok, result.failures


def test_chunks_are_within_the_error_budget(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, then channels: three chunks of two segments, the last one cut off."""
    for name, size in {
        "WARP": 4,
        "_ROW_SEGMENTS": 2,
        "_ROW_LENGTH": 8,
        "_ROW_CHUNKS": 3,
        "_SEGMENTS": 2,
        "_LENGTH": 8,
        "_CHUNKS": 3,
    }.items():
        monkeypatch.setattr(v2, name, size)
    for chains in (1, 3):
        cut = v2.configuration(1, 45, chains)
        assert (cut.chunks, cut.segments, cut.length) == (3, 2, 8)
    shape = GateShape(batch=1, n_seq=45, d_model=3, n_heads=1)
    result = check_operation("bk_scan", "v2", device, torch.float32, (shape,), draws=2)
    assert result.ok, result.failures


@pytest.mark.parametrize(("version", "n_seq"), [("v1", 400), ("v2", 1000), ("v2", 2500)])
def test_long_chains_at_the_smallest_energy(version: str, n_seq: int, device: torch.device) -> None:
    """Products of 2×2 matrices overflow here; η = 0.1 is the least the model allows."""
    exact = bk_scan(*chain(1, n_seq, hopping=False, energy=(0.0, 0.1)))
    arguments = chain(1, n_seq, hopping=False, energy=(0.0, 0.1), dtype=torch.float32)
    own = bk_scan(*arguments)
    on_device = [None if x is None else x.to(device) for x in arguments]
    got = implementation("bk_scan", version)(*on_device)
    for part in range(2):
        assert_within_budget(got[part].cpu(), own[part], exact[part])


@pytest.mark.parametrize("version", VERSIONS)
def test_one_output_alone_has_a_gradient(version: str, device: torch.device) -> None:
    def gradients(function: Any, inputs: Any) -> tuple[Tensor, ...]:
        leaves = [x.to(device).requires_grad_() for x in inputs if x is not None]
        return torch.autograd.grad(function(leaves[0], None, *leaves[1:])[1].square().sum(), leaves)

    exact = gradients(bk_scan, chain(2, 21, hopping=False))
    inputs = chain(2, 21, hopping=False, dtype=torch.float32)
    got = gradients(implementation("bk_scan", version), inputs)
    for g, e in zip(got, exact, strict=True):
        torch.testing.assert_close(g.double(), e, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("shape", "hopping"), [((1, 2), False), ((1, 2, 2), True)])
def test_opcheck(version: str, shape: tuple[int, ...], hopping: bool, device: torch.device) -> None:
    inputs = chain(*shape, hopping=hopping, dtype=torch.float32)
    arguments = [None if x is None else x.to(device).requires_grad_() for x in inputs]
    op = getattr(torch.ops.phase8, f"bk_scan_{version}").default
    torch.library.opcheck(op, tuple(arguments))
    g = op(*(None if x is None else x.detach() for x in arguments))
    hoppings = None if arguments[1] is None else arguments[1].detach()
    backward = getattr(torch.ops.phase8, f"bk_scan_{version}_backward").default
    torch.library.opcheck(backward, (*g[:2], *g[:2], hoppings))


@pytest.mark.parametrize("version", VERSIONS)
def test_other_dtypes_and_devices_are_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function = implementation("bk_scan", version)
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedVersionError, match=f"bk_scan {version}: expected onsite in float32"):
            function(*chain(1, 3, hopping=False))
    monkeypatch.setattr(device_limits, "interpreting", lambda: False)
    with pytest.raises(UnsupportedVersionError, match="expected tensors on a CUDA GPU, got cpu"):
        function(*chain(1, 3, hopping=False, dtype=torch.float32))


@pytest.mark.parametrize("batch", [1, 8, 64, 512])
@pytest.mark.parametrize("n_seq", [1, 7, 256, 1000, 4096, 9000, 131072])
@pytest.mark.parametrize("chains", [1, 40, 512, 1536])
def test_configurations_cover_the_sequence(batch: int, n_seq: int, chains: int) -> None:
    for module in (v1, v2):
        cut = module.configuration(batch, n_seq, chains)
        assert cut.chunks * cut.segments * cut.length >= n_seq
        assert (cut.chunks - 1) * cut.segments * cut.length < n_seq
        assert cut.length % 8 == 0
        assert cut.segments & (cut.segments - 1) == 0
        assert 1 <= cut.num_warps <= 16
    assert v1.configuration(batch, n_seq, chains).segments == 1


def test_chunks_follow_from_the_length_of_a_row_alone() -> None:
    """Scratch is straight in the batch, and what was measured of short rows stays one launch."""
    for chains in (1, 512):
        for n_seq in (8192, 32768, 131072):
            assert len({v2.configuration(batch, n_seq, chains).chunks for batch in (1, 2, 64)}) == 1
    assert [v2.configuration(1, n_seq, 1).chunks for n_seq in (4096, 8192, 32768, 131072)] == [1, 2, 8, 32]
    assert [v2.configuration(1, n_seq, 512).chunks for n_seq in (2048, 4096, 131072)] == [1, 2, 32]


def test_segments_only_where_they_fill_the_gpu() -> None:
    assert v2.configuration(64, 256, 1).segments == 32
    assert v2.configuration(1, 256, 512).segments == 16
    assert v2.configuration(512, 256, 512).segments == 1
